"""The bank: what a kernel is, presets, parametric kernels and kernel files."""

import os
import re
from dataclasses import replace

from imgconv.errors import KernelError
from imgconv.kernels.kernel import Kernel
from imgconv.kernels.text import parse_kernel_text
from imgconv.kernels.transform import NORMALIZE_RULES, anchored, combined, transform
from imgconv.ops.epilogue import COMBINE_RULES

__all__ = [
    "COMBINE_RULES",
    "NORMALIZE_RULES",
    "Kernel",
    "anchored",
    "combined",
    "get_kernel",
    "kernel_without_files",
    "load_kernel_file",
    "named_kernel",
    "parse_kernel_text",
    "preset_names",
    "transform",
]

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")

_JSON_OBJECT = re.compile(r'\s*\{\s*["}]')

# Names by which the peers know our kernels (ImageMagick's are case-insensitive).
ALIASES = {
    "freichen": "frei-chen",
    "compass": "prewitt-compass",
    "unity": "identity",
    "mean": "box",
    "average": "box",
    "gauss": "gaussian",
    "laplace": "laplacian",
    "laplacian-of-gaussian": "log",
    "difference-of-gaussians": "dog",
    "identity-3": "identity",
    "dct": "dct-8x8",
    "gaussian-blur": "gaussian",
    "box-blur": "box",
    "edges": "edge",
}
# What other tools have among their filters, and where it is here.
_ELSEWHERE = {
    "median": "expected --pool median:3,stride=1,padding=1",
    "erode": "expected --pool erode:3",
    "erosion": "expected --pool erode:3",
    "dilate": "expected --pool dilate:3",
    "dilation": "expected --pool dilate:3",
    "open": "expected imgconv run 'erode 3 | dilate 3'",
    "close": "expected imgconv run 'dilate 3 | erode 3'",
    "canny": "expected imgconv run 'canny 50,150'",
    "bilateral": "and not in imgconv; OpenCV has bilateralFilter",
}
# ImageMagick's numbered and angled variants.
_VARIANTS = {
    "laplacian": {"0": "laplacian-8", "1": "laplacian-4"},
    "sobel": {"0": "sobel-x", "90": "sobel-y", "45": "sobel-45", "135": "sobel-135"},
}


def preset_names() -> list[str]:
    """Every name that `get_kernel` knows without a parameter, sorted."""
    from imgconv.kernels import generators, presets

    return sorted({*presets.index(), *generators.GENERATORS})


def load_kernel_file(path: str | os.PathLike[str], name: str | None = None) -> Kernel:
    """Return the kernel in a file; see `imgconv.kernels.files`."""
    from imgconv.kernels import files

    return files.load_kernel_file(path, name)


def get_kernel(spec: str) -> Kernel:
    """Return the kernel that `spec` names.

    spec: a preset (`sobel-x`), one filter of a preset's bank (`kirsch-nw`), a parametric kernel
    (`gaussian:sigma=2`), a file (`k.toml`, `bank.toml:NAME`), or the matrix itself, as text or as
    the JSON object of a kernel file. Raises KernelError, with the nearest names for a name that
    is not known.
    """
    found = None if _is_file(spec) else named_kernel(spec)
    if found is not None:
        return found
    path, colon, inner = spec.rpartition(":")
    if colon and _suffix(path) == ".toml" and _is_file(path):
        return load_kernel_file(path, inner)
    if _is_file(spec) or (_suffix(spec) and _suffix(spec) in _suffixes()):
        return load_kernel_file(spec)
    if _JSON_OBJECT.match(spec):
        from imgconv.kernels.literal import parse_literal

        return parse_literal(spec)
    name = _name(spec)
    if _NAME.fullmatch(name) and name not in ("nan", "inf"):
        raise KernelError(_unknown(spec, name))
    names = re.split(r"[\s,;|+]+", spec.strip())
    if all(map(_NAME.fullmatch, names)) and not {"nan", "inf"} & set(names):
        each = f"-k {' -k '.join(names)} takes each"
        hint = "a chain is for imgconv run" if "|" in spec else each
        raise KernelError(f"kernel {spec!r}: {len(names)} names, expected one; {hint}")
    return parse_kernel_text(spec, "kernel")


def named_kernel(spec: str) -> Kernel | None:
    """The kernel of a name with its parameters; no file but the presets' own is looked at.

    None where the bank has no such name. Raises KernelError for wrong parameters.
    """
    name, arguments = _name(spec), spec.partition(":")[2].strip()
    if not _NAME.fullmatch(name):
        return None
    found = _named(ALIASES.get(name, name), arguments)
    return found and replace(found, named=True)


def kernel_without_files(text: str) -> Kernel:
    """As `get_kernel`, of a name or JSON only: a text of unknown origin opens no file.

    Raises KernelError for anything else.
    """
    if text.startswith("{"):
        from imgconv.kernels.literal import parse_literal

        return parse_literal(text)
    found = named_kernel(text)
    if found is None:
        raise KernelError(f"kernel {text[:40]!r}: expected a preset's name or a JSON object")
    return found


def _name(spec: str) -> str:
    return spec.partition(":")[0].strip().lower().replace("_", "-")


def _named(name: str, arguments: str) -> Kernel | None:
    from imgconv.kernels import presets

    variant = _VARIANTS.get(name, {}).get(arguments)
    if variant:
        return presets.preset(variant)
    if name in presets.index() and not arguments:
        return presets.preset(name)
    from imgconv.kernels import generators

    if name in generators.GENERATORS:
        return generators.generate(name, arguments)
    if name in presets.index():
        hint = "; unsharp:sigma=N,amount=N has some" if name == "sharpen" else ""
        raise KernelError(f"{name}: parameter {arguments!r}, expected no parameters{hint}")
    return None if arguments else _filter_of_bank(name)


def _filter_of_bank(name: str) -> Kernel | None:
    """`kirsch-nw`: the filter of a preset's bank that has this label."""
    from imgconv.kernels import presets

    for bank in presets.index():
        if name.startswith(bank + "-"):
            kernel, label = presets.preset(bank), name.removeprefix(bank + "-")
            if label in kernel.labels:
                at = kernel.labels.index(label)
                return replace(
                    kernel, name=name, weights=kernel.weights[at : at + 1], labels=(),
                    captions=(), combine="none", source=name,
                    description=f"{kernel.description} ({label})",
                    scale=kernel.scale if kernel.combine == "none" else "abs",
                )  # fmt: skip
    return None


def _suffixes() -> tuple[str, ...]:
    from imgconv.kernels.files import SUFFIXES

    return SUFFIXES


def _suffix(path: str) -> str:
    return os.path.splitext(path)[1].lower()


def _is_file(text: str) -> bool:
    try:
        return os.path.isfile(text)
    except ValueError:
        return False


def _unknown(spec: str, name: str) -> str:
    import difflib

    if name in _ELSEWHERE:
        return f"kernel {spec!r}: is not a kernel, {_ELSEWHERE[name]}"
    close = difflib.get_close_matches(name, preset_names(), 3)
    hint = f"did you mean {', '.join(close)}?" if close else "`imgconv kernels list` shows them"
    return f"kernel {spec!r}: no preset or file of this name; {hint}"
