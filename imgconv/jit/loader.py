"""Machine code in memory without LLVM: an object file flattened once, mapped in half a millisecond.

What it buys: a warm `apply` on 512×512 pixels takes 117 ms of CPU instead of 166, since to import
llvmlite and to let it link takes the difference. Without it LLVM loads the same object files, with
the same results. It is off, and `flatten` returns None, for anything but x86-64 ELF: on macOS,
Windows and other CPUs. On Linux, with glibc or musl, an image that cannot be mapped (a system that
refuses to make memory executable, a C library without a function) raises, and the store keeps the
object file instead. `IMGCONV_WITHOUT=loader` turns it off.

A compiled loop is a single function with a few constants, so linking it is little: the sections
that stay in memory are laid one after the other, and what LLVM's large code model left open are
64-bit addresses, of places within them, of other loops or of C functions such as expf. Sources:
System V Application Binary Interface, chapter 4 (ELF-64 object files), and its AMD64 supplement,
table 4.9.
"""

import ctypes
import errno
import functools
import mmap
import os
import struct
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

ENABLED = "loader" not in os.environ.get("IMGCONV_WITHOUT", "").split(",")
_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_SECTION = struct.Struct("<IIQQQQIIQQ")
_SYMBOL = struct.Struct("<IBBHQQ")
_RELOCATION = struct.Struct("<QQq")
_START = struct.Struct("<QQQI")  # entry, end of what is executable, size, patches
_PATCH = struct.Struct("<QqB")

_X86_64 = 62
_SYMBOLS, _STRINGS, _ADDENDS, _NOBITS, _RELA = 2, 3, 4, 8, 4
_WRITE, _ALLOC = 1, 2
_ABSOLUTE_64 = 1  # R_X86_64_64
_PAGE = 4096
_kept: list[Any] = []  # mappings live as long as the process
DENIED = (
    "this system lets no program make memory executable "
    "(SELinux, MemoryDenyWriteExecute= of systemd, or the like)"
)


class _Section(NamedTuple):
    name: int
    kind: int
    flags: int
    address: int
    offset: int
    size: int
    link: int
    info: int
    align: int
    entry_size: int


def flatten(code: bytes, symbol: str) -> bytes | None:
    """Return an object file's image, which `load` takes, or None where it has to be linked.

    symbol: the function that `load` returns the address of.
    """
    if not ENABLED:
        return None
    header = _HEADER.unpack_from(code)
    if header[0][:6] != b"\x7fELF\x02\x01" or header[2] != _X86_64:
        return None
    sections = [
        _Section(*_SECTION.unpack_from(code, header[6] + index * _SECTION.size))
        for index in range(header[12])
    ]
    names = sections[header[13]].offset
    places, image, executable = _laid_out(code, sections, names)
    table = next(one for one in sections if one.kind == _SYMBOLS)
    symbols = _symbols(code, table, sections[table.link].offset, places)
    patches = []
    for section in sections:
        if section.kind != _RELA or section.info not in places:
            continue
        for at in range(section.offset, section.offset + section.size, _RELOCATION.size):
            offset, what, addend = _RELOCATION.unpack_from(code, at)
            if what & 0xFFFFFFFF != _ABSOLUTE_64:
                return None
            name, value = symbols[what >> 32]
            if value is None and not name:
                return None
            patches.append((places[section.info] + offset, "" if value is not None else name,
                            (value or 0) + addend))  # fmt: skip
    entry = next((value for name, value in symbols if name == symbol), None)
    if entry is None:
        return None
    packed = [
        _PATCH.pack(place, addend, len(name)) + name.encode() for place, name, addend in patches
    ]
    start = _START.pack(entry, executable, len(image), len(packed))
    return start + b"".join(packed) + bytes(image)


def _laid_out(
    code: bytes, sections: list[_Section], names: int
) -> tuple[dict[int, int], bytearray, int]:
    """Return (place of each section that stays, the image, the end of its executable part)."""
    places: dict[int, int] = {}
    image = bytearray()
    executable = 0
    for writable in (0, _WRITE):
        for index, section in enumerate(sections):
            # Loops raise nothing, so nobody unwinds through them.
            skipped = _text(code, names + section.name) == ".eh_frame" or not section.size
            if not section.flags & _ALLOC or section.flags & _WRITE != writable or skipped:
                continue
            image += bytes(-len(image) % max(section.align, 1))
            places[index] = len(image)
            if section.kind == _NOBITS:
                image += bytes(section.size)
            else:
                image += code[section.offset : section.offset + section.size]
        image += bytes(-len(image) % _PAGE)
        executable = executable or len(image)
    return places, image, executable


def _symbols(
    code: bytes, table: _Section, names: int, places: dict[int, int]
) -> list[tuple[str, int | None]]:
    """(name, offset in the image) of each symbol; None for those defined elsewhere."""
    found = []
    for at in range(table.offset, table.offset + table.size, _SYMBOL.size):
        name, _, _, section, value, _ = _SYMBOL.unpack_from(code, at)
        place = places.get(section)
        found.append((_text(code, names + name), None if place is None else place + value))
    return found


def _text(code: bytes, at: int) -> str:
    return code[at : code.index(b"\0", at)].decode()


def load(flat: bytes, find: Callable[[str], int] = lambda name: 0) -> int:
    """Map an image into memory and return the address of its function.

    find: the address of a symbol that is not the C library's, or 0. Raises OSError where memory
    cannot be made executable, or is not to be, and ValueError for a symbol that this process does
    not have.
    """
    if not ENABLED:
        raise OSError("IMGCONV_WITHOUT=loader")
    entry, executable, size, count = _START.unpack_from(flat)
    mapping = mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    mapping[:] = flat[-size:]
    base = ctypes.addressof(ctypes.c_char.from_buffer(mapping))
    at = _START.size
    for _ in range(count):
        place, addend, length = _PATCH.unpack_from(flat, at)
        at += _PATCH.size + length
        name = flat[at - length : at].decode()
        target = ((find(name) or _address(name)) if name else base) + addend
        struct.pack_into("<Q", mapping, place, target)
    _make_executable(base, executable)
    _kept.append(mapping)
    return base + int(entry)


def _make_executable(base: int, size: int) -> None:
    process = ctypes.CDLL(None, use_errno=True)
    process.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    if process.mprotect(base, size, mmap.PROT_READ | mmap.PROT_EXEC):
        raise OSError(ctypes.get_errno(), "memory cannot be made executable")


@functools.cache
def may_execute() -> bool:
    """Whether memory that was written may become executable; without it no loop can run."""
    if sys.platform != "linux":
        return True
    page = mmap.mmap(-1, mmap.PAGESIZE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    try:
        _make_executable(ctypes.addressof(ctypes.c_char.from_buffer(page)), mmap.PAGESIZE)
    except OSError as error:
        return error.errno not in (errno.EACCES, errno.EPERM)
    return True


def _address(name: str) -> int:
    for library in (None, "libm.so.6"):
        try:
            return ctypes.addressof(ctypes.c_char.in_dll(ctypes.CDLL(library), name))
        except (ValueError, OSError):
            continue
    raise ValueError(f"no symbol {name}")
