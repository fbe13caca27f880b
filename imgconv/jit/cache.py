"""The store of compiled loops: one file of machine code per loop and machine, for all processes.

What it buys: a warm `apply` neither compiles for two seconds nor imports Numba, whose own cache
needs that and a quarter of a second more. Without it (`IMGCONV_STORE=`, or no folder that can be
written) every process compiles its loops, with the same results. It is on everywhere; LLVM's
target machine and object files are known here and nowhere else.

An entry's name is a digest of what it was made from: the source of `imgconv/ops` and
`imgconv/jit`, the versions of Numba and llvmlite, the architecture and the system, the CPU and its
features, and the loop's identity. So an edited source, an upgrade, another CPU or an emulated one
never meets a stale entry. An entry starts with a checksum of its name and code; one that is
truncated, altered or renamed is recompiled. A loop that calls another names
its entry, which is linked to it when it is loaded. Entries appear by rename, so any number of
processes may start cold on one store. Where the store cannot be written the loops live in memory
only and one warning says so.

The folder holds machine code, so it must belong to this user and be writable by nobody else, and
so must each entry: it is asked once it is open, when no other file can take its place.
`IMGCONV_STORE` names another folder; an empty value turns the store off. `IMGCONV_CPU=avx2` (or
`sse`) compiles for an x86-64 CPU that has no more than that, to test and to time the other
kernels' code: entries of the two never meet.
"""

import contextlib
import functools
import importlib.util
import mmap
import os
import re
import stat
import sys
import threading
from collections.abc import Callable
from typing import Any

from imgconv.errors import MachineError, UsageError
from imgconv.jit import loader

try:
    from _blake2 import blake2b  # hashlib loads OpenSSL first, which takes 3 ms
except ImportError:
    from hashlib import blake2b

_MAGIC = b"imgconv object 4\n"
# Beginnings of the names, in /proc/cpuinfo and LLVM, of what IMGCONV_CPU hides.
_BEYOND = ("avx512", "avx10", "amx", "evex512", "avx_", "avxvnni", "avxifma", "avxneconvert")
_BEYOND_SSE = (*_BEYOND, "avx", "fma", "f16c", "xop", "vaes", "vpclmul", "sha512", "sm3", "sm4")
_HIDDEN = {"": (), "avx2": _BEYOND, "sse": _BEYOND_SSE}
_PREFIX = "imgconv_"  # of the symbols of loops
_FLAT, _OBJECT = b"F", b"O"  # how an entry's code is to be loaded: as an image, or by LLVM
_lock = threading.RLock()
_keep: list[Any] = []  # execution engines own the loaded machine code
_announced: set[str] = set()
_loaded: dict[str, int] = {}  # addresses by symbol
compiled = 0  # loops that this process had to compile


def folder() -> str | None:
    """Where compiled loops are kept, or None when the store is off or has no place."""
    named = os.environ.get("IMGCONV_STORE")
    if named is not None:
        return named or None
    cache = os.environ.get("XDG_CACHE_HOME")
    if cache and os.path.isabs(cache):
        return os.path.join(cache, "imgconv")
    home = os.path.expanduser("~")
    return os.path.join(home, ".cache", "imgconv") if os.path.isabs(home) else None


@functools.cache
def _machine_digest() -> bytes:
    """Digest of everything but the loop itself."""
    digest = blake2b(_MAGIC)
    package = os.path.dirname(os.path.dirname(__file__))
    for place in ("jit", "ops", "ops/algorithms", "ops/microkernels"):
        folder = os.path.join(package, place)
        for name in sorted(name for name in os.listdir(folder) if name.endswith(".py")):
            digest.update(_content(os.path.join(folder, name)))
    for library in ("numba", "llvmlite"):
        digest.update(_version(library))
    digest.update(" ".join([*_architecture(), *sorted(_cpu())]).encode())
    return digest.digest()


def _architecture() -> tuple[str, ...]:
    """The machine that this process is code for, which need not be the one that it runs on."""
    machine = sys.version if sys.platform == "win32" else os.uname().machine
    return machine, sys.platform, str(sys.maxsize)


def _version(package: str) -> bytes:
    """A package's version without importing it (Numba: 190 ms) or its metadata's reader (15 ms)."""
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        return b""
    try:
        return _content(os.path.join(os.path.dirname(spec.origin), "_version.py"))
    except OSError:
        return spec.origin.encode()


def _content(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def _hidden() -> tuple[str, ...]:
    """How the names of instructions begin that are not to be used."""
    wanted = os.environ.get("IMGCONV_CPU", "")
    if wanted not in _HIDDEN:
        raise UsageError(f"IMGCONV_CPU={wanted!r}, expected avx2, sse or nothing")
    return _HIDDEN[wanted]


@functools.cache
def _cpu() -> frozenset[str]:
    """Words that say which instructions there are; from the kernel: asking LLVM takes 40 ms.

    An emulator can show the file of the machine that it runs on, where instructions have another
    architecture's title.
    """
    title = "flags" if _architecture()[0] in ("x86_64", "i686") else "Features"
    try:
        with open("/proc/cpuinfo", "rb") as file:
            first = file.read(16384).partition(b"\n\n")[0].decode(errors="replace")
    except OSError:
        first = ""
    fields = ("vendor_id", "cpu family", "model", "CPU", title)
    known = [line for line in first.splitlines() if line.startswith(fields)]
    if any(line.startswith(title) for line in known):
        words = {word for line in known for word in line.split()}
    else:
        words = {_llvm().get_host_cpu_name(), *_features().replace("+", "").split(",")}
    return frozenset(word for word in words if not word.startswith(_hidden() or "\0"))


@functools.cache
def _llvm() -> Any:
    import llvmlite.binding as llvm

    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    return llvm


@functools.cache
def _features() -> str:
    """The CPU's features as LLVM writes them, without those that are hidden."""
    features = str(_llvm().get_host_cpu_features().flatten()).split(",")
    hidden = _hidden() or "\0"
    return ",".join(f"-{one[1:]}" if one[1:].startswith(hidden) else one for one in features)


def cpu() -> tuple[str, set[str]]:
    """The CPU that loops are compiled for: LLVM's name, and its features without hidden ones."""
    features = {word[1:] for word in _features().split(",") if word.startswith("+")}
    return str(_llvm().get_host_cpu_name()), features


def wide_features() -> str:
    """The CPU's features, with whole vectors preferred where they pay."""
    features = _features()
    return features + ",-prefer-256-bit" if "+avx512vbmi2" in features else features


@functools.cache
def vectors() -> tuple[int, int]:
    """Return (float32 lanes of the widest vector, vector registers) of this CPU."""
    words = _cpu()
    if "avx512f" in words:
        return 16, 32
    if "avx" in words:
        return 8, 16
    return 4, 32 if words & {"asimd", "neon"} else 16


def fuses() -> bool:
    """Whether the CPU rounds a product and a sum once."""
    return bool(_cpu() & {"fma", "asimd"})


@functools.cache
def _target_machine() -> Any:
    llvm = _llvm()
    return llvm.Target.from_default_triple().create_target_machine(
        cpu=llvm.get_host_cpu_name(),
        features=_features(),
        opt=3,
        reloc="default",
        codemodel="jitdefault",
        jit=True,
    )


@functools.cache
def _engine() -> Any:
    llvm = _llvm()
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), _target_machine())
    _keep.append(engine)
    return engine


def has(identity: str) -> bool:
    """Whether there is an entry for a loop, whatever is in it."""
    path = _placed(identity)[1]
    return path is not None and os.path.exists(path)


def _placed(identity: str) -> tuple[str, str | None]:
    """Return (a loop's digest, its entry's path or None where nothing is kept)."""
    digest = blake2b(_machine_digest() + identity.encode(), digest_size=20).hexdigest()
    place = folder()
    return digest, os.path.join(place, f"{digest}.o") if place else None


def symbol(identity: str) -> str:
    """The name under which other loops call a loop."""
    return _PREFIX + _placed(identity)[0]


def define(symbol: str) -> bool:
    """Tell LLVM where a loop is that other loops call; False where there is no such loop."""
    address = _find(symbol)
    if address:
        _llvm().add_symbol(symbol, address)
    return address != 0


def load(identity: str, compile_ir: Callable[[], tuple[str, str]]) -> int:
    """Return the address of a loop's machine code, from the store or freshly compiled."""
    with _lock:
        named = symbol(identity)
        address = _find(named)
        if address:
            return address
        if not loader.may_execute():
            raise MachineError(f"compiled loops cannot run: {loader.DENIED}")
        _check_room()
        global compiled
        compiled += 1
        say_compiling()
        made, calls = _make_object(*compile_ir(), named)
        flat = loader.flatten(made, named)
        whole = _OBJECT + " ".join(calls).encode() + b"\n" + made
        path = _placed(identity)[1]
        for code in ([_FLAT + flat] if flat else []) + [whole]:
            address = _link(code, named)
            if address:
                if path:
                    _write(path, code)
                _loaded[named] = address
                return address
        raise RuntimeError(f"compiled loop has no symbol {named}")


def _check_room() -> None:
    """Raise MachineError where a limit leaves LLVM no memory: it would end the process.

    Numba, LLVM and the first loop take 310 MB of address space, further loops a few each.
    """
    if sys.platform == "win32":  # which has no such limit
        return
    size = (128 if "numba" in sys.modules else 512) << 20
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | getattr(mmap, "MAP_NORESERVE", 0)
    try:
        mmap.mmap(-1, size, flags).close()
    except OSError:
        raise MachineError(
            f"missing loops cannot be compiled within {size >> 20} MB: the limit of "
            "memory leaves no more; `imgconv warmup` fills the store without the limit"
        ) from None


def _find(named: str) -> int:
    """The address of a loop that this process has or the store keeps, or 0."""
    place = folder()
    if named not in _loaded and place and named.startswith(_PREFIX):
        code = _read(os.path.join(place, f"{named.removeprefix(_PREFIX)}.o"))
        address = _link(code, named) if code else 0
        if address:
            _loaded[named] = address
    return _loaded.get(named, 0)


def is_awaited() -> bool:
    """Whether a person waits at a terminal for what is compiled."""
    return sys.stderr is not None and sys.stderr.isatty()


def say_compiling(loops: int = 0) -> None:
    """Tell a person who waits at a terminal, once; loops: how many there are, if that is known.

    IMGCONV_QUIET=0 tells whoever listens, 1 nobody.
    """
    if os.environ.get("IMGCONV_QUIET") == "0" or is_awaited():
        # Numba's import, and on two cores a third of a second for each loop.
        time = f", about {round(1 + loops * 0.35)} s" if loops else ""
        count = f"{loops or ''} loop{'s' * (loops != 1)}".lstrip()
        _say_once("compiling", f"imgconv: compiling {count} for this machine{time}, once")


def _say_once(key: str, message: str) -> None:
    if key not in _announced:
        _announced.add(key)
        if os.environ.get("IMGCONV_QUIET") in (None, "", "0") and sys.stderr is not None:
            with contextlib.suppress(OSError, ValueError):
                print(message, file=sys.stderr)


def _make_object(entry: str, ir: str, symbol: str) -> tuple[bytes, list[str]]:
    """Compile IR to an object file whose only exported symbol is `symbol`.

    Returns also the symbols of the loops that it calls.
    """
    llvm = _llvm()
    # A loop raises nothing, so the two calls that Numba's wrapper keeps for reporting an
    # exception are unreachable; without a definition the object would not link on its own.
    ir = re.sub(r"declare [^\n]*@numba_gil_(ensure|release)\(ptr[^\n]*",
                r"define internal void @numba_gil_\1(ptr %x) { ret void }", ir)  # fmt: skip
    module = llvm.parse_assembly(ir.replace(f"@{entry}", f"@{symbol}").replace(
        f'@"{entry}"', f"@{symbol}"))  # fmt: skip
    for function in module.functions:
        if function.is_declaration and function.name.startswith(("NRT_", "numba_")):
            # A process without Numba would jump to nowhere.
            raise RuntimeError(f"loop needs {function.name}: it allocates or may raise")
        if not function.is_declaration and function.name != symbol:
            function.linkage = "internal"
    for variable in module.global_variables:
        if not variable.is_declaration or variable.linkage.name == "common":
            variable.linkage = "internal"
    module.verify()
    calls = [f.name for f in module.functions if f.is_declaration and f.name.startswith(_PREFIX)]
    return bytes(_target_machine().emit_object(module)), calls


def _link(code: bytes, symbol: str) -> int:
    """Return the address of an entry's function, or 0 where it cannot be loaded."""
    if code[:1] == _FLAT:
        try:
            return loader.load(code[1:], _find)
        except (OSError, ValueError):
            return 0
    llvm = _llvm()
    engine = _engine()
    calls, _, made = code[1:].partition(b"\n")
    for name in calls.decode().split():
        if not define(name):
            return 0
    try:
        engine.add_object_file(llvm.ObjectFileRef.from_data(made))
    except RuntimeError:
        return 0
    engine.finalize_object()
    return int(engine.get_function_address(symbol))


def _read(path: str) -> bytes | None:
    """Return a whole, unaltered entry of this user's or None."""
    flags = os.O_RDONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NONBLOCK", 0)
    try:
        if not _trusted(os.stat(os.path.dirname(path))):
            return None
        with open(path, "rb", opener=lambda name, _: os.open(name, flags)) as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode) or not _trusted(status):
                return None
            content = file.read()
    except OSError:
        return None
    header = len(_MAGIC) + 32
    if len(content) <= header or not content.startswith(_MAGIC):
        return None
    checksum, code = content[len(_MAGIC) : header], content[header:]
    return code if _checksum(path, code) == checksum else None


def _checksum(path: str, code: bytes) -> bytes:
    return blake2b(os.path.basename(path).encode() + code, digest_size=32).digest()


def _trusted(status: os.stat_result) -> bool:
    """Whether only this user can have put code into a folder or file."""
    return os.name != "posix" or (status.st_uid == os.geteuid() and not status.st_mode & 0o022)


def state() -> str:
    """Whether compiled loops can run and be kept, in words for `doctor`."""
    if not loader.may_execute():
        return f"of no use: {loader.DENIED}"
    place = folder()
    if place is None:
        return "off: loops are compiled by every process"
    there = place
    while not os.path.exists(there):
        there = os.path.dirname(there)
    if not os.path.isdir(there) or not os.access(there, os.W_OK | os.X_OK):
        return f"cannot be written: loops are compiled by every process ({there})"
    if there == place and not _trusted(os.stat(place)):
        return "not trusted: it belongs to or is writable by another user"
    return "ready"


def _write(path: str, code: bytes) -> None:
    """Publish an entry by rename; on failure say once that nothing is kept."""
    import tempfile

    temporary = ""
    try:
        place = os.path.dirname(path)
        os.makedirs(place, exist_ok=True, mode=0o700)
        if not _trusted(os.stat(place)):
            raise PermissionError(f"{place} belongs to or is writable by another user")
        descriptor, temporary = tempfile.mkstemp(dir=place, prefix=".new-")
        with os.fdopen(descriptor, "wb") as file:
            file.write(_MAGIC + _checksum(path, code) + code)
        os.replace(temporary, path)
    except OSError as error:
        if temporary:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
        _say_once(
            "unwritable",
            f"imgconv: compiled loops are not kept: {error.strerror or error}; "
            "set IMGCONV_STORE to a writable folder",
        )
