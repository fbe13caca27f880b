"""A batch with a ledger: killed at any moment it goes on, and nothing is done twice or lost."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from skimage import data

from imgconv.batch import ledger as ledgers

COUNT = 40
INVERT = ["-k", "-1", "--bias", "255"]


def command(*arguments):
    return [sys.executable, "-m", "imgconv", *map(os.fspath, arguments)]


def imgconv(*arguments, cwd, stdin=None):
    return subprocess.run(
        command(*arguments), cwd=cwd, input=stdin, capture_output=True, timeout=120
    )


def start(*arguments, cwd):
    return subprocess.Popen(
        command(*arguments), cwd=cwd, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )


def rows(result):
    return [json.loads(line) for line in result.stdout.splitlines()]


def made(folder, count):
    """Wait until so many outputs are there."""
    end = time.monotonic() + 60
    while len(list(Path(folder).glob("[!.]*.png"))) < count:
        assert time.monotonic() < end, "the batch made no outputs"
        time.sleep(0.001)


@pytest.fixture
def batch(tmp_path):
    photo = data.astronaut()
    (tmp_path / "in").mkdir()
    for number in range(COUNT):
        crop = photo[number * 8 : number * 8 + 160, number * 4 : number * 4 + 160]
        Image.fromarray(crop).save(tmp_path / "in" / f"{number:02}.png")
    return tmp_path


def pixels(folder):
    return {p.name: np.asarray(Image.open(p)) for p in sorted(Path(folder).glob("[!.]*.png"))}


def assert_inverted(batch, folder="out"):
    found, originals = pixels(batch / folder), pixels(batch / "in")
    assert found.keys() == originals.keys()
    for name, image in originals.items():
        np.testing.assert_array_equal(found[name], 255 - image, name)


def test_a_batch_killed_again_and_again_ends_whole_and_redoes_nothing_that_was_recorded(batch):
    run = ["apply", *INVERT, "in", "-o", "out/", "--resume", "--jobs", "2"]
    for count in (1, COUNT // 3, 2 * COUNT // 3):
        process = start(*run, cwd=batch)
        made(batch / "out", count)
        process.send_signal(signal.SIGKILL)
        process.communicate()
    state = json.loads(imgconv("jobs", "status", "--json", cwd=batch).stdout)
    # Up to 8 files were under way at a kill, made perhaps and not recorded.
    assert 2 * COUNT // 3 - 16 <= state["done"] < COUNT
    assert [r["state"] for r in state["runs"]] == ["interrupted"] * 3
    times = {p.name: p.stat().st_mtime_ns for p in (batch / "out").glob("[!.]*.png")}
    last = imgconv(*run, "--json", cwd=batch)
    assert last.returncode == 0, last.stderr
    skipped = {os.path.basename(row["input"]) for row in rows(last) if row.get("skipped")}
    assert len(skipped) == state["done"]
    assert_inverted(batch)
    assert {n for n, t in times.items() if (batch / "out" / n).stat().st_mtime_ns == t} >= skipped
    state = json.loads(imgconv("jobs", "status", "--json", cwd=batch).stdout)
    assert (state["done"], state["interrupted"], state["failed"]) == (COUNT, 0, 0)


def test_two_processes_share_a_ledger_and_make_every_output_once(batch):
    run = ["apply", *INVERT, "in", "-o", "out/", "--resume", "--jobs", "2", "--json"]
    both = [subprocess.Popen(command(*run), cwd=batch, stdout=subprocess.PIPE) for _ in range(2)]
    results = [one.communicate(timeout=120)[0] for one in both]
    assert [one.returncode for one in both] == [0, 0]
    found = [json.loads(line) for text in results for line in text.splitlines()]
    worked = [row["input"] for row in found if not row.get("skipped")]
    assert sorted(worked) == sorted(set(worked))
    assert len(worked) == COUNT
    assert_inverted(batch)


def stop_between_claims(process, ledger):
    """Stop a process while it has not locked its ledger, which others would wait for."""
    while True:
        process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT)
        with closing(sqlite3.connect(ledger, timeout=0, isolation_level=None)) as db:
            try:
                db.execute("BEGIN IMMEDIATE")
                return
            except sqlite3.OperationalError:
                process.send_signal(signal.SIGCONT)
        time.sleep(0.001)


def test_a_process_takes_over_what_one_that_died_had_claimed(batch):
    run = ["apply", *INVERT, "in", "-o", "out/", "--resume", "--jobs", "2"]
    first = start(*run, cwd=batch)
    made(batch / "out", 3)
    stop_between_claims(first, batch / "imgconv-ledger.sqlite")
    second = start(*run, cwd=batch)
    made(batch / "out", COUNT - 4)
    state = json.loads(imgconv("jobs", "status", "--json", cwd=batch).stdout)
    assert [one["state"] for one in state["runs"]] == ["running"] * 2
    assert second.poll() is None or not state["running"]
    first.send_signal(signal.SIGKILL)
    first.communicate()
    assert second.communicate(timeout=60)[1] == b""
    assert second.returncode == 0
    assert_inverted(batch)


def test_filtering_in_place_never_filters_twice(batch):
    (batch / "out").mkdir()
    for name in os.listdir(batch / "in"):
        (batch / "out" / name).write_bytes((batch / "in" / name).read_bytes())
    run = ["apply", *INVERT, "out", "--in-place", "--resume", "--jobs", "2"]
    stamps = {p.name: p.stat().st_ino for p in (batch / "out").iterdir()}

    def changed():
        return sum((batch / "out" / name).stat().st_ino != old for name, old in stamps.items())

    for count in (1, COUNT // 3, COUNT // 2):
        process = start(*run, cwd=batch)
        while changed() < count and process.poll() is None:
            time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
        process.communicate()
    assert imgconv(*run, cwd=batch).returncode == 0
    assert_inverted(batch)
    again = imgconv(*run, "--json", cwd=batch)
    assert all(row.get("skipped") for row in rows(again))


def test_a_file_that_was_there_before_the_batch_is_not_its_own(batch):
    (batch / "out").mkdir()
    (batch / "out" / "05.png").write_bytes(b"precious")
    run = ["apply", *INVERT, "in", "-o", "out/", "--resume"]
    for _ in range(2):
        result = imgconv(*run, cwd=batch)
        assert result.returncode == 1
        assert result.stderr.count(b"\n") == 1
        assert b"out/05.png: exists" in result.stderr
        assert (batch / "out" / "05.png").read_bytes() == b"precious"
    edited = batch / "out" / "07.png"
    edited.write_bytes(b"retouched by hand")
    assert b"out/07.png: exists" in imgconv(*run, cwd=batch).stderr
    assert edited.read_bytes() == b"retouched by hand"
    assert imgconv(*run, "--overwrite", cwd=batch).returncode == 0
    assert_inverted(batch)


def test_what_changed_is_done_again_and_only_that(batch):
    run = ["apply", *INVERT, "in", "-o", "out/", "--resume", "--json"]

    def worked(*arguments):
        result = imgconv(*(arguments or run), cwd=batch)
        assert result.returncode == 0, result.stderr
        return [os.path.basename(r["input"]) for r in rows(result) if not r.get("skipped")]

    assert len(worked()) == COUNT
    Image.fromarray(data.camera()[:50, :50]).save(batch / "in" / "03.png")
    os.utime(batch / "in" / "04.png")
    (batch / "out" / "05.png").unlink()
    assert worked() == ["03.png", "05.png"]
    assert worked() == []
    assert_inverted(batch)
    # Other kernels and options make other outputs of the same names: the ledger's own are replaced.
    other = ["apply", "-k", "2", "in", "-o", "out/", "--resume", "--json"]
    assert len(worked(*other)) == COUNT
    assert worked(*other) == []
    assert len(worked(*other, "--depth", "16")) == COUNT
    np.save(batch / "k.npy", np.ones((1, 1)))
    chain = ["run", "conv k.npy", "in", "-o", "chain/", "--resume", "--json"]
    assert len(worked(*chain)) == COUNT
    np.save(batch / "k.npy", np.full((1, 1), 0.5))
    assert len(worked(*chain)) == COUNT


def test_failures_are_listed_and_can_be_fed_back(batch):
    odd = batch / "in" / "new\nline.png"
    odd.write_bytes(b"\x89PNG\r\n\x1a\nrubbish")
    run = ["apply", *INVERT, "-o", "out/", "--resume", "--json"]
    assert imgconv(*run, "in", cwd=batch).returncode == 1
    shown = imgconv("jobs", "status", cwd=batch)
    assert b"failed       1" in shown.stdout
    assert shown.stderr.count(b"\n") == 1
    names = imgconv("jobs", "status", "--failed", "-0", cwd=batch).stdout
    assert names == os.fsencode(odd) + b"\0"
    Image.fromarray(data.camera()[:50, :50]).save(odd)
    result = imgconv(*run, "--files-from", "-", "-0", cwd=batch, stdin=names)
    assert (result.returncode, len(rows(result))) == (0, 1)
    assert b"failed       0" in imgconv("jobs", "status", cwd=batch).stdout


def test_since_takes_what_changed_after_a_moment_or_the_last_completed_run(batch):
    old = time.time() - 3 * 86400
    for path in (batch / "in").iterdir():
        os.utime(path, (old, old))
    run = ["apply", *INVERT, "in", "--overwrite", "-o", "out/", "--json"]
    today = time.strftime("%Y-%m-%d", time.localtime(time.time() - 86400))
    os.utime(batch / "in" / "03.png")
    for since, count in (("1d", 1), (today, 1), ("4d", COUNT), ("last", COUNT)):
        assert len(rows(imgconv(*run, "--since", since, cwd=batch))) == count, since
    assert len(rows(imgconv(*run, "--ledger", "l.sqlite", cwd=batch))) == COUNT
    os.utime(batch / "in" / "04.png")
    last = imgconv(*run, "--ledger", "l.sqlite", "--since", "last", cwd=batch)
    assert [os.path.basename(row["input"]) for row in rows(last)] == ["04.png"]
    wrong = imgconv(*run, "--since", "soon", cwd=batch)
    assert (wrong.returncode, wrong.stderr.count(b"\n")) == (2, 1)


@pytest.mark.parametrize("content", [b"no database", b"", None])
def test_what_is_no_ledger_is_said_so_before_any_work(batch, content):
    path = batch / "other.sqlite"
    if content is None:
        import sqlite3

        db = sqlite3.connect(path)
        db.execute("CREATE TABLE t (x)")
        db.close()
    elif content:
        path.write_bytes(content)
    arguments = ["in", "-o", "out/", "--ledger", path if content != b"" else batch / "no" / "x"]
    result = imgconv("apply", *INVERT, *arguments, cwd=batch)
    assert (result.returncode, result.stderr.count(b"\n")) == (2, 1), result.stderr
    assert not (batch / "out").exists()
    result = imgconv("jobs", "status", path, cwd=batch)
    assert (result.returncode, result.stderr.count(b"\n")) == (2, 1), result.stderr


def test_digests_tell_values_apart_and_are_the_same_in_another_process():
    values = [(1, 2), (12,), ((1,), 2), "1", 1, 1.0, None, {"a": 1}, np.ones(2), np.ones(2, "f4")]
    digests = [ledgers.digest_of(value) for value in values]
    assert len(set(digests)) == len(values)
    code = "from imgconv.batch.ledger import digest_of; print(digest_of({'b': (1, 'x')}).hex())"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout.strip() == ledgers.digest_of({"b": (1, "x")}).hex()


def test_collisions_in_a_list_are_found_before_any_work(batch):
    (batch / "other").mkdir()
    (batch / "other" / "03.png").write_bytes((batch / "in" / "05.png").read_bytes())
    names = b"in/03.png\nin/04.png\nother/03.png\n"
    for source, stdin in (("-", names), ("list.txt", b"")):
        (batch / "list.txt").write_bytes(names)
        run = ["apply", *INVERT, "--files-from", source, "-o", "out/", "--overwrite"]
        result = imgconv(*run, cwd=batch, stdin=stdin)
        assert (result.returncode, result.stderr.count(b"\n")) == (2, 1)
        assert b"output of both in/03.png and other/03.png" in result.stderr
        assert not (batch / "out").exists()


def test_a_streamed_list_has_its_collisions_found_as_they_come(batch):
    (batch / "other").mkdir()
    (batch / "other" / "03.png").write_bytes((batch / "in" / "05.png").read_bytes())
    names = b"in/03.png\nin/04.png\nother/03.png\n"
    run = ["apply", *INVERT, "--files-from", "-", "--stream", "-o", "out/", "--overwrite"]
    result = imgconv(*run, cwd=batch, stdin=names)
    assert (result.returncode, result.stderr.count(b"\n")) == (1, 1)
    assert b"output of both in/03.png and other/03.png" in result.stderr
    assert sorted(path.name for path in (batch / "out").iterdir()) == ["03.png", "04.png"]
    first = np.asarray(Image.open(batch / "in" / "03.png"))
    np.testing.assert_array_equal(np.asarray(Image.open(batch / "out" / "03.png")), 255 - first)
