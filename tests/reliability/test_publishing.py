"""Rows 17 and 18: outputs appear whole or not at all, whatever the disk or the pipe does."""

import os
import re
import shutil
import stat
import subprocess
import sys

import pytest

from imgconv.errors import OutputError
from imgconv.io import publish as publishing
from imgconv.io.publish import publish
from tests.reliability.support import (
    COMMAND,
    NOBODY,
    imgconv,
    one_line,
    pixels,
    save_photo,
    skip_unless_nobody_can_run,
    temporaries,
)

APPLY = ("apply", "-q", "-k", "sobel", "photo.png")
OLD = b"the old file"
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="mounting and chown need root")
straced = pytest.mark.skipif(shutil.which("strace") is None, reason="no strace")


# Row 17


@pytest.mark.parametrize(
    "arguments", [(*APPLY, "-o", "png:-"), (*APPLY, "--json"), ("kernels", "list"), ("--help",)]
)
def test_row_17_a_full_standard_output_is_exit_code_1(photo, arguments):
    with open("/dev/full", "wb") as full:
        result = subprocess.run(
            [*COMMAND, *arguments], cwd=photo, stdout=full, stderr=subprocess.PIPE
        )
    assert result.returncode == 1
    one_line(result, b"standard output: No space left on device")


@pytest.mark.parametrize(
    "arguments", [(*APPLY, "-o", "png:-"), (*APPLY, "--json"), ("kernels", "list")]
)
def test_row_17_a_closed_standard_output_is_exit_code_1(photo, arguments):
    script = 'exec "$@" >&-'
    result = subprocess.run(
        ["sh", "-c", script, "sh", *COMMAND, *arguments], cwd=photo, capture_output=True
    )
    assert result.returncode == 1
    one_line(result, b"standard output: closed")


@pytest.mark.parametrize(
    "arguments", [(*APPLY, "-o", "png:-"), (*APPLY, "--json"), ("kernels", "list"), ("--help",)]
)
def test_row_17_a_reader_that_has_gone_is_exit_code_141_in_silence(photo, arguments):
    read, write = os.pipe()
    os.close(read)
    result = subprocess.run([*COMMAND, *arguments], cwd=photo, stdout=write, stderr=subprocess.PIPE)
    os.close(write)
    assert (result.returncode, result.stderr) == (141, b"")


NAMELESS = """
import errno, os, sys
from imgconv.io.png import writer

whole = writer.encode_rows

def encode_rows(*arguments, **options):
    yield from whole(*arguments, **options)
    raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))

writer.encode_rows = encode_rows
import imgconv.cli.commands.doctor as doctor

def _store():
    raise OSError(errno.EIO, os.strerror(errno.EIO))

doctor._store = _store
from imgconv.__main__ import entry
entry()
"""


def test_row_17_a_failure_without_a_name_is_put_down_to_no_file(photo):
    """Of the system, say, that gives no process: neither stdout nor the output is at fault."""
    for arguments, said in (
        (("doctor",), b"imgconv: Input/output error\n"),
        ((*APPLY, "-o", "x.png"), b"imgconv: photo.png: Resource temporarily unavailable\n"),
    ):
        result = subprocess.run(
            [sys.executable, "-c", NAMELESS, *arguments], cwd=photo, capture_output=True
        )
        assert (result.returncode, result.stderr) == (1, said)
    assert not (photo / "x.png").exists()


def test_row_17_no_output_takes_the_descriptor_of_a_closed_stream(photo):
    """A library's message to descriptor 2 would be in the picture otherwise."""
    probe = (
        "import os, sys; from imgconv.cli.exit_codes import run; from imgconv.cli import main;"
        "run(main); fd = os.open('probe', os.O_CREAT | os.O_WRONLY);"
        "os.write(fd, b'%d' % fd)"
    )
    script = f'exec "{sys.executable}" -c "$1" --version <&- >&- 2>&-'
    subprocess.run(["sh", "-c", script, "sh", probe], cwd=photo, check=True)
    assert int((photo / "probe").read_bytes()) > 2


# Row 18


def calls_of_publishing(log):
    """(system call, how many of its kind came before it, whether the rename was past)."""
    counts, found, renamed = {}, [], False
    for line in log.read_text(errors="replace").splitlines():
        name = line.partition("(")[0]
        if not re.fullmatch(r"\w+", name):
            continue
        counts[name] = counts.get(name, 0) + 1
        ours = ".imgconv-" in line
        if ours or (renamed and name in ("fsync", "openat", "close")):
            found.append((name, counts[name], renamed))
        renamed = renamed or (ours and name in ("rename", "link"))
    return found


@straced
@pytest.mark.parametrize("existing", [True, False])
@pytest.mark.parametrize("fault", ["EIO", "ENOSPC"])
def test_row_18_a_fault_at_any_call_of_publishing_leaves_the_old_file_whole(photo, existing, fault):
    out = photo / "out.png"

    def run(*strace):
        out.unlink(missing_ok=True)
        if existing:
            out.write_bytes(OLD)
        under = ("strace", "-y", "-o", photo / "log", *strace)
        arguments = (*APPLY, "-o", "out.png", *(["--overwrite"] if existing else []))
        return imgconv(*arguments, cwd=photo, under=under)

    traced = "trace=openat,write,fchmod,fsync,close,rename,link"
    assert run("-e", traced).returncode == 0
    new = out.read_bytes()
    calls = calls_of_publishing(photo / "log")
    assert {("fsync", False), ("fsync", True)} <= {(name, late) for name, _, late in calls}
    names = {name for name, _, _ in calls}
    assert {"openat", "write", "fsync", "close", "rename" if existing else "link"} <= names
    for name, number, renamed in calls:
        if renamed and name != "fsync":
            continue  # only opening and closing the folder, or files of no concern
        result = run("-e", traced, "-e", f"inject={name}:error={fault}:when={number}")
        where = f"{name} number {number}"
        assert result.returncode == 1, where
        one_line(result, b"out.png: ")
        content = out.read_bytes() if out.exists() else None
        assert content == (new if renamed else OLD if existing else None), where
        assert temporaries(photo) == [], where


@as_root
@pytest.mark.parametrize("existing", [True, False])
def test_row_18_a_full_disk_leaves_the_old_file_whole(photo, existing):
    disk = photo / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=16k", "none", disk]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("cannot mount a tmpfs")
    try:
        if existing:
            (disk / "out.npy").write_bytes(OLD)
        result = imgconv(*APPLY, "-o", "disk/out.npy", "--overwrite", cwd=photo)
        assert result.returncode == 1
        one_line(result, b"disk/out.npy: No space left on device")
        assert temporaries(disk) == []
        assert [path.read_bytes() for path in disk.iterdir()] == [OLD] * existing
    finally:
        subprocess.run(["umount", disk], check=True)


@as_root
def test_row_18_a_ledger_on_a_full_disk_says_so_and_goes_on_once_there_is_room(photo):
    disk = photo / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=500k", "none", disk]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("cannot mount a tmpfs")
    (photo / "in").mkdir()
    for number in range(60):
        shutil.copy(photo / "photo.png", photo / "in" / f"{number}.png")
    batch = ("apply", "-q", "-k", "sobel", "in", "-o", "out/", "--no-metadata")
    try:
        full = imgconv(*batch, "--ledger", "disk/ledger", cwd=photo)
        assert full.returncode == 1
        lines = full.stderr.splitlines()
        assert len(lines) > 20
        assert all(b"disk/ledger: ledger: database or disk is full" in line for line in lines)
        subprocess.run(["mount", "-o", "remount,size=16M", disk], check=True)
        rest = imgconv(*batch, "--ledger", "disk/ledger", "--resume", cwd=photo)
        assert (rest.returncode, rest.stderr) == (0, b"")
        told = imgconv("jobs", "status", "disk/ledger", cwd=photo).stdout.split()
        assert told[:8] == [b"done", b"60", b"failed", b"0", b"running", b"0", b"interrupted", b"0"]
        outputs = [path.read_bytes() for path in (photo / "out").iterdir()]
        assert (len(outputs), len(set(outputs))) == (60, 1)
    finally:
        subprocess.run(["umount", disk], check=True)


def test_row_18_a_limit_of_file_size_leaves_the_old_file_whole(photo):
    (photo / "out.npy").write_bytes(OLD)
    result = imgconv(
        *APPLY, "-o", "out.npy", "--overwrite", cwd=photo, under=("prlimit", "--fsize=4096")
    )
    assert result.returncode == 1
    one_line(result, b"out.npy: File too large")
    assert (photo / "out.npy").read_bytes() == OLD
    assert temporaries(photo) == []


@pytest.mark.parametrize("number", ["EINVAL", "ENOSYS", "EOPNOTSUPP"])
def test_row_18_a_folder_without_fsync_takes_outputs_with_one_note(photo, number):
    refusing = (
        "import errno, os\n"
        "def no_sync(descriptor):\n"
        f"    raise OSError(errno.{number}, 'refused')\n"
        "os.fsync = no_sync\n"
        "from imgconv.__main__ import entry\n"
        "entry()\n"
    )
    shutil.copy(photo / "photo.png", photo / "other.png")
    words = ("apply", "-q", "-k", "sobel", "photo.png", "other.png", "-o", "out/")
    ended = subprocess.run(
        [sys.executable, "-c", refusing, *words], cwd=photo, capture_output=True, timeout=60
    )
    assert ended.returncode == 0
    one_line(ended, b"fsync")
    assert sorted(os.listdir(photo / "out")) == ["other.png", "photo.png"]
    assert pixels(photo / "out/photo.png").shape == (64, 64, 3)


def test_row_18_a_folder_that_is_not_ours_is_named(photo):
    skip_unless_nobody_can_run()
    photo.chmod(0o755)
    for parent in photo.parents[:2]:
        parent.chmod(0o755)
    result = imgconv(
        *APPLY, "-o", "out.png", cwd=photo, env={**os.environ, "IMGCONV_STORE": ""},
        under=NOBODY,
    )  # fmt: skip
    assert result.returncode == 1
    assert b"out.png: Permission denied" in result.stderr
    assert b"Traceback" not in result.stderr
    assert os.listdir(photo) == ["photo.png"]


def test_an_exception_while_encoding_leaves_the_old_file_whole(tmp_path):
    path = tmp_path / "out.png"
    path.write_bytes(OLD)

    def pieces():
        yield b"half"
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        publish(str(path), pieces(), overwrite=True)
    assert path.read_bytes() == OLD
    assert os.listdir(tmp_path) == ["out.png"]


def test_an_output_that_appears_meanwhile_is_not_replaced(tmp_path):
    path = tmp_path / "out.png"

    def pieces():
        yield b"new"
        path.write_bytes(OLD)

    with pytest.raises(OutputError, match="exists"):
        publish(str(path), pieces())
    assert path.read_bytes() == OLD
    assert os.listdir(tmp_path) == ["out.png"]


def test_a_replaced_file_keeps_its_mode_and_a_new_one_follows_the_umask(tmp_path):
    old = tmp_path / "old.png"
    old.write_bytes(OLD)
    old.chmod(0o640)
    if os.geteuid() == 0:
        os.chown(old, 1234, 4321)
    before = old.stat()
    publish(str(old), [b"new"], overwrite=True)
    mask = os.umask(0o027)
    try:
        publish(str(tmp_path / "new.png"), [b"new"])
    finally:
        os.umask(mask)
    after = old.stat()
    assert (after.st_mode, after.st_uid, after.st_gid) == (
        before.st_mode, before.st_uid, before.st_gid
    )  # fmt: skip
    assert after.st_ino != before.st_ino
    assert stat.S_IMODE((tmp_path / "new.png").stat().st_mode) == 0o640


def test_a_symlink_stays_and_its_target_is_replaced_in_its_own_folder(photo, monkeypatch):
    elsewhere = photo / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "real.png").write_bytes(OLD)
    (photo / "out.png").symlink_to("elsewhere/real.png")
    assert imgconv(*APPLY, "-o", "out.png", cwd=photo).returncode == 1
    assert (elsewhere / "real.png").read_bytes() == OLD
    assert imgconv(*APPLY, "-o", "out.png", "--overwrite", cwd=photo).returncode == 0
    assert os.readlink(photo / "out.png") == "elsewhere/real.png"
    assert pixels(elsewhere / "real.png").shape == (64, 64, 3)
    folders = []
    real_replace = os.replace
    monkeypatch.setattr(
        publishing.os, "replace", lambda a, b: (folders.append(a), real_replace(a, b))
    )
    publish(str(photo / "out.png"), [b"new"], overwrite=True)
    assert os.path.dirname(folders[0]) == str(elsewhere)


def test_a_dangling_symlink_is_filled_and_a_loop_is_refused(tmp_path):
    (tmp_path / "dangling").symlink_to("real")
    publish(str(tmp_path / "dangling"), [b"new"])
    assert (tmp_path / "real").read_bytes() == b"new"
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(OutputError, match="loop: Too many levels"):
        publish(str(tmp_path / "loop"), [b"new"], overwrite=True)


def test_a_device_is_written_to_and_stays_a_device(photo):
    save_photo(photo / "second.png")
    result = imgconv(*APPLY, "second.png", "-o", "/dev/null", "--format", "png", cwd=photo)
    assert result.returncode == 0, result.stderr
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)
    result = imgconv(*APPLY, "-o", "/dev/stdout", "--format", "png", cwd=photo)
    assert result.stdout.startswith(b"\x89PNG")
    result = imgconv(*APPLY, "-o", "/dev/full", "--format", "png", cwd=photo)
    assert result.returncode == 1
    one_line(result, b"/dev/full: No space left on device")


def test_a_named_pipe_carries_the_output(photo):
    os.mkfifo(photo / "pipe")
    reader = subprocess.Popen(["cat", photo / "pipe"], stdout=subprocess.PIPE)
    result = imgconv(*APPLY, "-o", "pipe", "--format", "png", cwd=photo)
    content, _ = reader.communicate(timeout=20)
    assert result.returncode == 0
    assert content.startswith(b"\x89PNG")
    assert stat.S_ISFIFO(os.stat(photo / "pipe").st_mode)
