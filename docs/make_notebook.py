"""Write docs/tutorial.ipynb, run: `python docs/make_notebook.py`.

A cell begins with a line `# %%`, and one of text with `# %% [markdown]`. What a cell's last line is
goes below it, as a picture where it shows itself as one.
"""

import ast
import base64
import json
import re
import sys
from pathlib import Path

FOLDER = Path(__file__).parent
SOURCE, NOTEBOOK = FOLDER / "tutorial.py", FOLDER / "tutorial.ipynb"


def notebook() -> dict[str, object]:
    """The notebook as its JSON has it, with the outputs of this run."""
    names: dict[str, object] = {}
    cells, number = [], 0
    for kind, text in re.findall(r"^# %%(.*)\n((?:(?!# %%).*\n?)*)", SOURCE.read_text(), re.M):
        text = text.strip()
        cell: dict[str, object] = {"id": f"cell-{len(cells)}", "metadata": {}}
        if "markdown" in kind:
            prose = re.sub(r"^# ?", "", text, flags=re.M)
            cell |= {"cell_type": "markdown", "source": prose.splitlines(keepends=True)}
        else:
            number += 1
            cell |= {
                "cell_type": "code", "execution_count": number,
                "source": text.splitlines(keepends=True), "outputs": _run(text, names, number),
            }  # fmt: skip
        cells.append(cell)
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    return {
        "cells": cells, "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5,
    }  # fmt: skip


def _run(text: str, names: dict[str, object], number: int) -> list[dict[str, object]]:
    """Run a cell and return what it shows."""
    tree = ast.parse(text)
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, "cell", "exec"), names)
    value = last and eval(compile(ast.Expression(last.value), "cell", "eval"), names)
    if value is None:
        return []
    data: dict[str, object] = {"text/plain": [repr(value)]}
    picture = getattr(value, "_repr_png_", None)
    if picture:
        data = {
            "image/png": base64.b64encode(picture()).decode(),
            "text/plain": [f"<{type(value).__name__}>"],
        }
    return [
        {"output_type": "execute_result", "execution_count": number, "metadata": {}, "data": data}
    ]


if __name__ == "__main__":
    NOTEBOOK.write_text(json.dumps(notebook(), indent=1, ensure_ascii=False) + "\n")
    sys.stdout.write(f"{NOTEBOOK}: {NOTEBOOK.stat().st_size} bytes\n")
