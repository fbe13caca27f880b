"""The order of the house: imports between modules go down, in no circle, and nothing uses the CLI.

Imports within functions count too: one that hides a circle from Python does not end it.
"""

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1] / "imgconv"
# From the top down; a module may import its own level and those below.
LEVELS = (
    ("__main__", ""),
    ("cli", "api"),
    ("batch",),
    ("pipeline",),
    ("viz",),
    ("nn",),
    ("kernels",),
    ("io",),
    ("npy", "parts", "safetensors", "toml"),
    ("ops",),
    ("jit",),
    ("arguments", "console", "marks", "shapes", "threads", "typing"),
    ("errors",),
)
LEVEL = {name: level for level, names in enumerate(LEVELS) for name in names}
EXCEPTIONS = {
    # How a kernel shows itself in a notebook.
    ("imgconv.kernels.kernel", "imgconv.viz.kernel_plot"),
}


def module_of(path, root):
    parts = path.relative_to(root.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def import_nodes(node):
    """The import statements under a node, but for those that only type checkers see."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            for other in child.orelse:
                yield from import_nodes(other)
        elif isinstance(child, (ast.Import, ast.ImportFrom)):
            yield child
        else:
            yield from import_nodes(child)


def imports_of(root):
    """Each module of a package with the modules of it that it imports, anywhere in its text."""
    paths = {module_of(path, root): path for path in root.rglob("*.py")}
    graph = {}
    for module, path in paths.items():
        package = module if path.name == "__init__.py" else module.rpartition(".")[0]
        names = set()
        for node in import_nodes(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names |= {alias.name for alias in node.names}
                continue
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, *([base] if base else [])])
            for alias in node.names:
                if alias.name.startswith("__"):  # a version, there before anything is imported
                    continue
                inner = f"{base}.{alias.name}"
                names.add(inner if inner in paths else base)
        graph[module] = {name for name in names if name in paths and name != module}
    return graph


def circle_in(graph):
    """A circle of modules, or None."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return error.args[1]
    return None


@pytest.fixture(scope="module")
def graph():
    return imports_of(ROOT)


def test_there_are_no_circles(graph):
    ended = {module: {name for name in names if (module, name) not in EXCEPTIONS}
             for module, names in graph.items()}  # fmt: skip
    assert circle_in(ended) is None


def test_imports_go_down(graph):
    def level(module):
        return LEVEL[module.split(".")[1] if "." in module else ""]

    up = {(module, name) for module, names in graph.items() for name in names
          if level(name) < level(module)}  # fmt: skip
    assert up <= EXCEPTIONS


def test_only_the_entry_point_imports_the_command_line(graph):
    users = {module for module, names in graph.items()
             if any(name.split(".")[1:2] == ["cli"] for name in names)}  # fmt: skip
    assert {module for module in users if not module.startswith("imgconv.cli")} == {
        "imgconv.__main__"
    }


def test_a_circle_is_found_wherever_the_import_stands(tmp_path):
    package = tmp_path / "house"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "hall.py").write_text("from . import room\n")
    (package / "room.py").write_text("import os\n")
    assert circle_in(imports_of(package)) is None
    (package / "room.py").write_text("def open():\n    from house.hall import room\n")
    assert set(circle_in(imports_of(package))) == {"house.hall", "house.room"}
    (package / "room.py").write_text(
        "from typing import TYPE_CHECKING\n\nif TYPE_CHECKING:\n    import house.hall\n"
    )
    assert circle_in(imports_of(package)) is None
