"""A soak: mixed commands for as long as one likes, and what they leave behind.

    python -m tests.reliability.soak --minutes 60 --folder /tmp/soak

Two things run in turns. One process that lives for the whole time does every command again and
again; after each round its resident memory, open files and threads are taken. Beside it each
command is a process of its own, whose peak is taken, one in six ended by a signal at a random
moment. Every output has to have the digest that it had the first time: the first outputs are kept
in `first/`, each that differs in `odd/` with what the command was. The report is one JSON object;
the exit code is 1 when it holds a fault.
"""

import argparse
import contextlib
import hashlib
import json
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from skimage import data, io

from tests.reliability.support import COMMAND, temporaries

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGKILL)
WORKER = "--worker"
# The allocator keeps what a round needed; more than this between the halves is a leak.
GROWTH = 0.05


class Job(NamedTuple):
    """A command line, its exit code, and a file that stands on its standard input."""

    arguments: tuple[str, ...]
    code: int = 0
    stdin: str = os.devnull


def apply(kernel, *more, code=0, inputs=("a.png", "b.jpg", "c.tif"), stdin=os.devnull):
    """`imgconv apply` into the folder that {out} stands for."""
    return Job(("apply", "-q", "-k", kernel, *inputs, "-o", "{out}/", *more), code, stdin)


CHAIN = "gray | conv gaussian:sigma=1 | conv sobel | relu | maxpool 2"
ALL = ("a.png", "b.jpg", "c.tif")
JOBS = (
    apply("sobel"),
    apply("gaussian:sigma=3", "--depth", "16", "--format", "tiff"),
    apply("unsharp", "--stride", "2", "--pool", "max:2", "--format", "webp"),
    apply("laplacian", "--scale", "minmax", "--padding-mode", "circular", "--format", "npz"),
    apply("gabor:theta=30,lambda=8", "--gray", "--colormap", "viridis"),
    apply("box:size=31", "--threads", "2", "--format", "jpg", "--quality", "80"),
    apply("0 -1 0; -1 5 -1; 0 -1 0", "--linear", "--activation", "relu", "--memory", "1M"),
    apply("sobel", "-k", "box-3", "--report", "{out}/pages/"),
    apply("sobel-x", "-k", "sobel-y", "--sheet", "--share-scale"),
    apply("prewitt", "--frame", "all", inputs=("many.gif",)),
    apply("sobel", "--json", code=1, inputs=("a.png", "cut.png", "noise.png", "absent.png")),
    apply("box-3", "--files-from", "-", "-o", "{out}/{index}.png", inputs=(), stdin="names"),
    apply("no-such-kernel", code=2),
    Job(("apply", "-q", "-k", "emboss", "-", "-o", "png:-"), stdin="a.png"),
    Job(("run", "-q", CHAIN, *ALL, "-o", "{out}/")),
    Job(("run", "-q", CHAIN, "cut.png", "-o", "{out}/"), 1),
    Job(("net", "predict", "lenet5", "sample:digit", "--json")),
    Job(("net", "features", "lenet5", "sample:digit", "-q", "--layer", "c*", "-o", "{out}/")),
    Job(("net", "summary", "resnet18")),
    Job(("explain", "-k", "sobel-x", "--padding", "same", "1 2 3; 4 5 6; 7 8 9")),
    Job(("show", "a.png", "-k", "sobel")),
    Job(("compare", "a.png", "a2.png", "-o", "{out}/difference.png", "--json"), 1),
    Job(("kernels", "list")),
)


def make_inputs(folder):
    """Photographs of several formats, and files that are broken."""
    photo = data.astronaut()
    crops = {
        "a.png": photo[:300, :256],
        "a2.png": photo[1:301, :256],
        "b.jpg": photo[100:400, 30:330],
        "c.tif": photo[:200, 200:],
    }
    for name, crop in crops.items():
        io.imsave(folder / name, crop, check_contrast=False)
    from PIL import Image

    frames = [Image.fromarray(data.camera()[:64, at : at + 64]) for at in (0, 64, 128)]
    frames[0].save(folder / "many.gif", save_all=True, append_images=frames[1:])
    whole = (folder / "a.png").read_bytes()
    (folder / "cut.png").write_bytes(whole[: len(whole) // 2])
    (folder / "noise.png").write_bytes(random.Random(1).randbytes(4096))
    (folder / "names").write_text("a.png\nb.jpg\nc.tif\n" * 20)


def digest_of(folder, said):
    """One digest of every file in a folder, by name, and of what was printed."""
    found = hashlib.sha256(said)
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            found.update(os.fsencode(path.relative_to(folder)) + b"\0" + path.read_bytes())
    return found.hexdigest()


def keep(made, folder):
    """Copy the folder of outputs and the file of what was printed, those that are there."""
    out, said = made
    folder.mkdir(parents=True)
    if out.exists():
        shutil.copytree(out, folder / "out")
    shutil.copy(said, folder / "said")


def arguments_of(job, out):
    return [word.replace("{out}", out) for word in job.arguments]


def worker():
    """Do the jobs whose numbers come on standard input; a line of figures after each round."""
    from imgconv.cli import main
    from imgconv.cli.exit_codes import run

    orders, answers = os.fdopen(os.dup(0)), os.fdopen(os.dup(1), "w")
    sys.stdout.reconfigure(errors="backslashreplace")
    sys.stderr = open(os.devnull, "w")  # noqa: SIM115
    for _ in orders:
        digests = []
        for number, job in enumerate(JOBS):
            with open(f"said-{number}", "w+b") as said, open(job.stdin, "rb") as stdin:
                os.dup2(stdin.fileno(), 0)
                os.dup2(said.fileno(), 1)
                sys.stdin = open(0, closefd=False)  # noqa: SIM115
                code = run(main, arguments_of(job, "out"))
                said.seek(0)
                digests.append([code, digest_of(Path("out"), said.read())])
            with contextlib.suppress(FileNotFoundError):
                os.rename("out", f"out-{number}")  # until the digests are compared
        resident = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        files = len(os.listdir("/proc/self/fd"))
        figures = {"resident": resident, "files": files, "digests": digests,
                   "threads": len(os.listdir("/proc/self/task"))}  # fmt: skip
        print(json.dumps(figures), file=answers, flush=True)


class Soak:
    """The state of a soak in a folder: digests of the first time, figures, faults."""

    def __init__(self, folder):
        self.folder, self.faults = folder / "short", []
        self.lived = folder / "lived"
        self.start = time.monotonic()
        self.first = {}
        self.peaks = {number: [] for number in range(len(JOBS))}
        self.rounds = []
        self.counts = {"commands": 0, "in_one_process": 0, "ended_by_signals": 0, "outputs": 0}
        self.seconds = {}
        self.generator = random.Random(7)

    def command(self, number):
        """One job as a process of its own, perhaps ended early."""
        job, out = JOBS[number], self.folder / "out"
        ending = self.generator.random() < 1 / 6 and number in self.seconds
        start = time.monotonic()
        said_path = self.folder / "said"
        with open(self.folder / job.stdin, "rb") as stdin, open(said_path, "w+b") as said:
            process = subprocess.Popen(
                [*COMMAND, *arguments_of(job, "out")],
                cwd=self.folder, stdin=stdin, stdout=said, stderr=subprocess.DEVNULL,
            )  # fmt: skip
            sent = None
            if ending:
                time.sleep(self.generator.uniform(0, self.seconds[number]))
                sent = self.generator.choice(SIGNALS)
                os.kill(process.pid, sent)  # Popen's own would reap a process that has ended
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = code = os.waitstatus_to_exitcode(status)
            said.seek(0)
            digest = digest_of(out, said.read())
        self.counts["commands"] += 1
        left = temporaries(self.folder)
        if sent == signal.SIGKILL:
            for path in left:
                path.unlink()
        elif left:
            self.fault(number, f"left {left}")
        if sent is None or (code == job.code and sent != signal.SIGINT):
            self.same(number, code, digest, f"after signal {sent}", (out, said_path))
        elif code not in (job.code, 130, 143, -sent, 1):
            self.fault(number, f"exit code {code} after signal {sent}")
        self.counts["ended_by_signals"] += sent is not None
        if sent is None:
            self.seconds[number] = time.monotonic() - start
            self.peaks[number].append(usage.ru_maxrss * 1024)
        shutil.rmtree(out, ignore_errors=True)

    def same(self, number, code, digest, how, made):
        """Compare an outcome with the first one of its job; keep what it made if it differs."""
        self.counts["outputs"] += 1
        if code != JOBS[number].code:
            self.fault(number, f"exit code {code} {how}")
        if number not in self.first:
            self.first[number] = digest
            keep(made, self.folder.parent / "first" / str(number))
        elif self.first[number] != digest:
            what = f"digest {digest[:12]} {how}, at first {self.first[number][:12]}"
            odd = self.folder.parent / "odd" / f"{number}-{self.counts['outputs']}"
            keep(made, odd)
            (odd / "what").write_text(f"{' '.join(JOBS[number].arguments)}: {what}\n")
            self.fault(number, what)

    def fault(self, number, what):
        self.faults.append(f"{' '.join(JOBS[number].arguments)}: {what}")

    def run(self, minutes):
        """Alternate rounds of the long-lived process and of processes until the time is over."""
        end = self.start + 60 * minutes
        for folder in (self.folder, self.lived):
            folder.mkdir()
            make_inputs(folder)
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.reliability.soak", WORKER],
            cwd=self.lived, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "IMGCONV_QUIET": "1"},
        )  # fmt: skip
        with process:
            while len(self.rounds) < 4 or time.monotonic() < end:
                process.stdin.write(b"round\n")
                process.stdin.flush()
                for number in self.generator.sample(range(len(JOBS)), len(JOBS)):
                    self.command(number)
                line = process.stdout.readline()
                if not line:
                    self.faults.append(f"the long-lived process ended with {process.wait()}")
                    break
                figures = json.loads(line)
                for number, (code, digest) in enumerate(figures.pop("digests")):
                    made = self.lived / f"out-{number}", self.lived / f"said-{number}"
                    self.same(number, code, digest, "in one process", made)
                    shutil.rmtree(made[0], ignore_errors=True)
                self.counts["in_one_process"] += len(JOBS)
                self.rounds.append(figures)
                if left := temporaries(self.lived):
                    self.faults.append(f"temporaries {left}")
                report = self.folder.parent / "report.json"
                report.write_text(json.dumps(self.report(), indent=1))
            process.stdin.close()

    def report(self):
        """The figures, with faults for what grew from the second quarter to the last."""
        faults = list(self.faults)
        later = self.rounds[len(self.rounds) // 4 :]
        half = max(1, len(later) // 2)
        early, late = later[:half], later[half:] or later[-1:]
        grown = {}
        for name in ("resident", "files", "threads"):
            before, after = (statistics.median(r[name] for r in part) for part in (early, late))
            grown[name] = [before, after]
            if after > before * (1 + GROWTH) + (8 << 20 if name == "resident" else 0):
                faults.append(f"the long-lived process: {name} {before}, then {after}")
        ratios = []
        for number, peaks in self.peaks.items():
            if len(peaks) >= 8:
                parts = peaks[: len(peaks) // 2], peaks[len(peaks) // 2 :]
                before, after = map(statistics.median, parts)
                ratios.append(after / before)
                if after > before * (1 + GROWTH) + (4 << 20):
                    faults.append(f"{' '.join(JOBS[number].arguments)}: peak {before}, {after}")
        return {
            "minutes": round((time.monotonic() - self.start) / 60, 1),
            **self.counts, "rounds": len(self.rounds), "grown": grown,
            "largest_peak": max(max(peaks, default=0) for peaks in self.peaks.values()),
            "worst_ratio_of_peaks": round(max(ratios, default=1.0), 4),
            "faults": faults[:20],
        }  # fmt: skip


def soak(folder, minutes):
    """Run a soak in an empty folder; return its report."""
    state = Soak(folder)
    with contextlib.suppress(KeyboardInterrupt):
        state.run(minutes)
    return state.report()


def main():
    if sys.argv[1:] == [WORKER]:
        return worker()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--folder", type=Path)
    given = parser.parse_args()
    folder = given.folder or Path(tempfile.mkdtemp(prefix="soak-"))
    folder.mkdir(exist_ok=True)
    found = soak(folder, given.minutes)
    print(json.dumps(found, indent=1))
    return 1 if found["faults"] else 0


if __name__ == "__main__":
    sys.exit(main())
