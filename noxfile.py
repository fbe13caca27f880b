"""The project's chores: `nox -s tests`, `nox -l` lists them.

Arguments behind `--` go to the command that the session runs.
"""

import nox

nox.options.sessions = ["lint", "types", "tests"]
nox.options.default_venv_backend = "uv|virtualenv"
PYTHONS = ["3.11", "3.12", "3.13", "3.14"]
EVERYDAY = "not slow and not cluster"


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """The everyday tests."""
    session.install("-e", ".[test,onnx,big]")
    session.run("pytest", "-q", "-n", "auto", "-m", EVERYDAY, *session.posargs)


@nox.session
def slow(session: nox.Session) -> None:
    """The slow tests: fuzzing, other CPUs, many random cases."""
    session.install("-e", ".[test,onnx,big,fuzz]")
    session.run("pytest", "-q", "-n", "auto", "-m", "slow and not cluster", *session.posargs)


@nox.session
def cluster(session: nox.Session) -> None:
    """The tests on a Dask cluster of several processes on this machine."""
    session.install("-e", ".[cluster-test]")
    session.run("pytest", "-q", "-m", "cluster", *session.posargs)


@nox.session
@nox.parametrize("bounds", ["lowest", "newest"])
def dependencies(session: nox.Session, bounds: str) -> None:
    """The everyday tests with the lowest or the newest releases that pyproject.toml allows."""
    if bounds == "lowest":
        session.run_install(
            "uv", "pip", "install", "--resolution", "lowest-direct", "-e", ".[test,onnx,big]",
            external=True,
        )  # fmt: skip
    else:
        session.install("--upgrade", "-e", ".[test,onnx,big]")
    session.run("pytest", "-q", "-n", "auto", "-m", EVERYDAY, *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """Style and formatting."""
    session.install("ruff>=0.9")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")


@nox.session
def types(session: nox.Session) -> None:
    """mypy, strict."""
    session.install("-e", ".[test,onnx]")
    session.run("mypy")


@nox.session
def docs(session: nox.Session) -> None:
    """Write what the pages take from the program: options, the API, man pages, the gallery."""
    session.install("-e", ".")
    for script in ("update_options", "update_api", "make_man", "make_gallery"):
        session.run("python", f"docs/{script}.py")


@nox.session
def bench(session: nox.Session) -> None:
    """Benchmarks beside the peers: `nox -s bench -- --short --only png`."""
    session.run("bash", "benchmarks/run", *session.posargs, external=True)


@nox.session
def release(session: nox.Session) -> None:
    """Build sdist and wheel into dist/, and try the wheel; CONTRIBUTING.md has the procedure."""
    session.install("build>=1.2", "twine>=6")
    session.run("python", "-m", "build", "--outdir", "dist", ".")
    session.run("bash", "-c", "twine check dist/*", external=True)
    session.run("bash", "-c", "pip install --force-reinstall dist/*.whl", external=True)
    session.run("bash", ".ci/smoke", "imgconv", session.create_tmp(), external=True)
