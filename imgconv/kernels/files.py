"""Kernel files: TOML, JSON, CSV/TXT, libvips .mat, NPY/NPZ, safetensors. Nothing is unpickled."""

import io
import json
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from imgconv import npy
from imgconv.errors import ImageError, KernelError
from imgconv.io.limits import MAX_TEXT, read_at_most
from imgconv.io.source import read_stdin
from imgconv.kernels.kernel import Kernel, check_bias, once
from imgconv.kernels.text import MAX_WEIGHTS, check_rows, from_array, parse_kernel_text
from imgconv.marks import PICKLED, PREFIX, kind_of
from imgconv.ops.epilogue import COMBINE_RULES
from imgconv.typing import Array, Toml

MAX_BYTES = 16 * MAX_WEIGHTS
SUFFIXES = (".toml", ".json", ".csv", ".txt", ".mat", ".npy", ".npz", ".safetensors")


def load_kernel_file(path: str | os.PathLike[str], name: str | None = None) -> Kernel:
    """Return the kernel in a file; `name` picks one of several in TOML.

    NPZ and safetensors hold `weight` (or one array of any name) and optionally `bias`; JSON is a
    nested list or an object with `weights` and optionally bias, divisor, combine, scale, labels.
    Raises KernelError naming the file and what was expected.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            data = read_at_most(file, MAX_BYTES)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise KernelError(f"{path}: {getattr(error, 'strerror', None) or error}") from None
    if len(data) > MAX_BYTES:
        raise KernelError(f"{path}: more than the {MAX_BYTES} bytes of a kernel file")
    kernel = _parse(path, data, name)
    if kernel.combine not in COMBINE_RULES:
        raise KernelError(
            f"{path}: combine={kernel.combine}, expected one of {', '.join(COMBINE_RULES)}"
        )
    return replace(kernel, name=kernel.name if name else path.stem, source=str(path))


def _parse(path: Path, data: bytes, name: str | None) -> Kernel:
    suffix, source = path.suffix.lower(), str(path)
    # The marks in the file go before its name, which decides where there are none.
    kind = kind_of(data[:PREFIX]) or suffix.removeprefix(".")
    if kind == "pickle":
        raise KernelError(f"{source}: {PICKLED}")
    if kind == "npy":
        return from_array(_read_npy(data, source), source)
    if kind == "npz":
        return _from_arrays(_read_npz(data, source), source)
    if kind == "safetensors":
        from imgconv.errors import ModelError
        from imgconv.safetensors import read_safetensors

        try:
            return _from_arrays(read_safetensors(path), source)
        except ModelError as error:
            raise KernelError(str(error)) from None
    text = _text(data, source)
    if suffix == ".toml":
        return _from_toml(text, source, name)
    if suffix == ".json" and text.lstrip().startswith("{"):
        try:
            entry = json.loads(text, object_pairs_hook=once)
        except (ValueError, RecursionError) as error:
            raise KernelError(f"{source}: {error}") from None
        return _from_table({path.stem: entry}, path.stem, source)
    if suffix == ".csv":
        _check_csv(text, source)
        return parse_kernel_text(text, source, "csv")
    return parse_kernel_text(text, source, "mask" if suffix == ".mat" else "text")


def kernel_from_stdin() -> Kernel:
    """Return the kernel whose text is on standard input. Raises KernelError."""
    try:
        data = read_stdin(MAX_TEXT)
    except ImageError as error:
        raise KernelError(str(error)) from None
    return parse_kernel_text(_text(data, "-"), "-")


def _text(data: bytes, source: str) -> str:
    if len(data) > MAX_TEXT:
        raise KernelError(f"{source}: more than the {MAX_TEXT} bytes of a text; NPY holds more")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise KernelError(
            f"{source}: byte {error.start} is not UTF-8 text, expected a matrix"
        ) from None


def _check_csv(text: str, source: str) -> None:
    """Raise KernelError for semicolons between the columns of several lines.

    That is how spreadsheets write where commas are decimal; here each would begin a row.
    """
    check_rows(text, source)
    lines = [line.split("#")[0].strip().rstrip(";") for line in text.splitlines()]
    for number, line in enumerate(lines, 1):
        if ";" in line and sum(map(bool, lines)) > 1:
            raise KernelError(
                f"{source}: line {number}: semicolons between numbers, expected commas, and a "
                "point in decimal fractions"
            )


def _from_toml(text: str, source: str, name: str | None) -> Kernel:
    from imgconv.toml import parse_toml

    try:
        table = parse_toml(text)
    except ValueError as error:
        raise KernelError(f"{source}: {error}") from None
    if "matrix" in table or "weights" in table:
        table = {"kernel": table}
    if name is None:
        if len(table) != 1:
            names = ", ".join(table) or "none"
            raise KernelError(f"{source}: kernels {names}, expected one; name it as FILE:NAME")
        name = next(iter(table))
    if name not in table:
        raise KernelError(f"{source}: no kernel {name}, expected one of {', '.join(table)}")
    return _from_table(table, name, source)


def _from_table(table: Toml, name: str, source: str) -> Kernel:
    from imgconv.kernels.presets import build

    try:
        return build(name, table)
    except KernelError as error:
        raise KernelError(f"{source}: {error}") from None
    except (TypeError, ValueError, KeyError, OverflowError, RecursionError) as error:
        raise KernelError(f"{source}: {name}: {error!r} cannot be used") from None


@np.errstate(invalid="ignore")
def _from_arrays(arrays: Mapping[str, Array], source: str) -> Kernel:
    weights = arrays.get("weight", arrays.get("weights"))
    others = [name for name in arrays if name != "bias"]
    if weights is None and len(others) == 1:
        weights = arrays[others[0]]
    if weights is None or len(others) > 1:
        raise KernelError(f"{source}: arrays {', '.join(arrays)}, expected weight and bias")
    kernel = from_array(weights, source)
    if "bias" not in arrays:
        return kernel
    bias = check_bias(np.asarray(arrays["bias"], np.float64), len(kernel.weights), source)
    return replace(kernel, bias=bias)


def _read_npy(data: bytes, source: str) -> Array:
    with npy.reported_as(KernelError):
        return npy.array_of(npy.parse_header(data, source), data, source)


def _read_npz(data: bytes, source: str) -> dict[str, Array]:
    with npy.reported_as(KernelError):
        members = npy.open_npz(io.BytesIO(data), source)
        total = sum(member.declared.size for member in members)
        if total > MAX_BYTES:
            raise KernelError(
                f"{source}: arrays of {total} bytes together, expected at most {MAX_BYTES}"
            )
        return {member.name: member.load() for member in members}
