"""Where the pages of `--report` go."""

import os
from typing import Any

from imgconv.errors import UsageError
from imgconv.io.publish import publish
from imgconv.pipeline.naming import Part
from imgconv.pipeline.plan import Plan, check_against_input

_PAGE = Part("report", "", "report")


class Reports:
    """Names and writes the pages of a command's inputs."""

    def __init__(self, target: str, several: bool) -> None:
        if target == "-":
            raise UsageError("--report -: expected a file, a folder/ or a template with {stem}")
        plain = not target.endswith(os.sep) and not os.path.isdir(target)
        if plain and os.path.splitext(target)[1].lower() not in (".html", ".htm"):
            raise UsageError(f"--report {target}: expected a name that ends in .html")
        advice = "use --report DIR/ or a template such as --report '{parent}-{stem}.html'"
        self.plan = Plan(target, ".html", several=several, option="--report", advice=advice)

    def path(self, source: str, index: int, frame: int = 0) -> str:
        """The page of an input. Raises UsageError where two inputs would have one."""
        path = self.plan.path(source, _PAGE, index, frame)
        check_against_input(path, source, False)
        return path

    def write(self, page: bytes, path: str, replace: bool) -> dict[str, Any]:
        """Publish an input's page; return its row for --json."""
        return {"output": path, "map": "report", "bytes": publish(path, [page], replace)}
