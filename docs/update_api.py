"""Write docs/api.md from the docstrings of the public API: `python docs/update_api.py`."""

import inspect
import re
from pathlib import Path

import imgconv

PAGE = Path(__file__).parent / "api.md"
HEAD = """# From Python

`import imgconv` provides everything below; each name is imported when it is first used. All errors
are `imgconv.ImgconvError`, with a one-line message that says what was given and what was expected.
This page is generated from the docstrings, whose examples are tested.
"""
_LISTS = ("Parameters", "Attributes", "Returns", "Raises")
_SECTIONS = (*_LISTS, "Notes", "Examples", "References")


def page() -> str:
    """The page."""
    return "\n".join([HEAD, *(entry(name) for name in imgconv.__all__)])


def entry(name: str) -> str:
    """A name's heading, signature and docstring as Markdown."""
    value = getattr(imgconv, name)
    lines = [f"## {name}", ""]
    if inspect.isfunction(value):
        lines += ["```text", _signature(name, value), "```", ""]
    lines += _markdown(inspect.getdoc(value) or "")
    for method in ("features", "predict", "effective_weights"):
        if inspect.isclass(value) and method in vars(value):
            found = getattr(value, method)
            lines += ["", f"### {name}.{method}", ""]
            lines += ["```text", _signature(method, found), "```", ""]
            lines += _markdown(inspect.getdoc(found) or "")
    return "\n".join([*lines, ""])


def _signature(name: str, function: object) -> str:
    """The signature, one parameter per line if it is long."""
    parts, star = [], False
    for parameter in inspect.signature(function).parameters.values():  # type: ignore[arg-type]
        if parameter.kind is parameter.KEYWORD_ONLY and not star:
            parts.append("*")
            star = True
        star = star or parameter.kind is parameter.VAR_POSITIONAL
        shown = parameter.replace(annotation=parameter.empty)
        parts.append(str(shown))
    line = f"{name}({', '.join(parts)})"
    return line if len(line) <= 88 else f"{name}(\n    " + ",\n    ".join(parts) + ",\n)"


def _markdown(doc: str) -> list[str]:
    """A docstring's sections as Markdown: headings in bold, examples as code."""
    lines: list[str] = []
    inside = code = False
    for line in re.sub(r"\n-{3,}\n", "\n", doc).splitlines():
        if line in _SECTIONS:
            lines += [f"**{line}**", ""]
            inside, code = line in _LISTS, line == "Examples"
            if code:
                lines.append("```pycon")
        elif inside and line and not line.startswith(" "):
            lines.append(f"- `{line}`")
        elif inside and line:
            lines.append(f"  {line.strip()}")
        else:
            lines.append(line)
    return [*lines, "```"] if code else lines


if __name__ == "__main__":
    PAGE.write_text(page())
