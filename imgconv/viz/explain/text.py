"""A step of an explanation in words and numbers, for a terminal."""

from collections.abc import Sequence

from imgconv.viz.explain.steps import Explanation, Grid, Step, whole_share


def words(explanation: Explanation) -> str:
    """What is not the default, such as `stride 2, padding 1 (zeros), kernel turned by 180°`."""
    settings, sides = explanation.settings, explanation.sides
    said = []
    if explanation.rule == "conv":
        stride, dilation = settings["stride"], settings["dilation"]
        said += [f"stride {_both(stride)}"] * (stride != [1, 1])
        said += [f"dilation {_both(dilation)}"] * (dilation != [1, 1])
        said += ["kernel turned by 180°"] * settings["flip"]
    else:
        names = {"kernel_size": "window", "output_size": "output"}
        for name, value in settings.items():
            if name != "kind":
                shown = value if isinstance(value, bool) else _both(value)
                said.append(f"{names.get(name, name.replace('_', ' '))} {shown}")
        said.insert(0, f"{settings['kind']} pooling")
    if any(sides):
        same = len(set(sides)) == 1
        amount = str(sides.top) if same else ", ".join(
            f"{name} {pad}" for name, pad in sides._asdict().items() if pad
        )  # fmt: skip
        mode = f" ({settings['padding_mode']})" if "padding_mode" in settings else ""
        said.append(f"padding {amount}{mode}")
    return ", ".join(said)


def _both(value: float | Sequence[float]) -> str:
    numbers = list(value) if isinstance(value, Sequence) else [value]
    return "×".join(f"{one:g}" for one in (numbers[:1] if len(set(numbers)) == 1 else numbers))


def number(value: float) -> str:
    """A value as a person writes it: 12, −0.25, 1.333; a minus sign, no trailing zeros."""
    return f"{value:.4g}".replace("-", "−")


def formula(explanation: Explanation, step: Step) -> str:
    """The arithmetic of one step, such as `3·0 + 3·1 + 2·2 = 7`."""
    result, settings = number(step.result), explanation.settings
    values = ", ".join(number(cell.value) for cell in step.cells)
    if explanation.rule == "conv":
        terms = " + ".join(f"{number(c.value)}·{_factor(c.weight)}" for c in step.cells)
        if settings["divisor"] != 1:
            terms = f"({terms}) / {number(settings['divisor'])}"
        if settings["bias"]:
            terms += f" + {number(settings['bias'])}"
        return f"{terms} = {result}"
    if explanation.rule == "avg":
        total = number(sum(cell.value for cell in step.cells))
        divisor = settings.get("divisor_override", len(step.cells))
        return f"mean({values}) = {total} / {divisor} = {result}"
    if explanation.rule == "lp":
        p = number(settings["norm_type"])
        terms = " + ".join(f"{_factor(cell.value)}^{p}" for cell in step.cells) or "0"
        whole, left = whole_share(settings["kernel_size"], step.cells)
        if whole != left:
            terms = f"({terms}) · {whole}/{left}"
        return f"({terms})^(1/{p}) = {result}"
    return f"{explanation.rule}({values}) = {result}"


def _factor(value: float) -> str:
    return f"({number(value)})" if value < 0 else number(value)


def as_text(explanation: Explanation, step: Step, color: bool) -> str:
    """One step for a terminal: the padded input with its window, the kernel, the output so far.

    With `color` the window is in reverse video and padding is gray; without, the window is
    in [brackets] and padding in (parentheses).
    """
    window = {(cell.row, cell.column) for cell in step.cells}
    done = _position(explanation, step) + 1
    left = _input_lines(explanation, window, color)
    blocks = [("input", left)]
    if explanation.weights is not None:
        blocks.append(("kernel", _plain_lines(explanation.weights)))
    texts = [number(value) for value in explanation.output.flat]
    flat = [text if i < done else "·" for i, text in enumerate(texts)]
    width = max(len(text) for text in texts)
    columns = explanation.output.shape[1]
    lines = [
        " ".join(text.rjust(width) for text in flat[start : start + columns])
        for start in range(0, len(flat), columns)
    ]
    blocks.append(("output", lines))
    heading = [f"output ({step.row}, {step.column}): {formula(explanation, step)}"]
    if said := words(explanation):
        heading.append(said)
    return "\n".join([*heading, *_beside(blocks)])


def _position(explanation: Explanation, step: Step) -> int:
    return step.row * int(explanation.output.shape[1]) + step.column


def _plain_lines(grid: Grid) -> list[str]:
    texts = [[number(value) for value in row] for row in grid]
    width = max(len(text) for row in texts for text in row)
    return [" ".join(text.rjust(width) for text in row) for row in texts]


def _input_lines(explanation: Explanation, window: set[tuple[int, int]], color: bool) -> list[str]:
    grid = explanation.padded
    width = max(len(number(value)) for value in grid.flat)
    lines = []
    for row in range(grid.shape[0]):
        parts = []
        for column in range(grid.shape[1]):
            text = number(grid[row, column]).rjust(width)
            chosen = (row, column) in window
            padding = not explanation.inside(row, column)
            if color:
                codes = ["7"] * chosen + ["90"] * padding
                parts.append(f"\x1b[{';'.join(codes)}m {text} \x1b[0m" if codes else f" {text} ")
            else:
                marks = "[]" if chosen else "()" if padding else "  "
                parts.append(f"{marks[0]}{text}{marks[1]}")
        lines.append("".join(parts))
    return lines


def _beside(blocks: list[tuple[str, list[str]]]) -> list[str]:
    """Lay blocks of lines side by side under their titles."""
    height = max(len(lines) for _, lines in blocks)
    widths = [max([len(title), *(_visible(line) for line in lines)]) for title, lines in blocks]
    rows = ["   ".join(title.ljust(w) for (title, _), w in zip(blocks, widths, strict=True))]
    for i in range(height):
        parts = []
        for (_, lines), width in zip(blocks, widths, strict=True):
            line = lines[i] if i < len(lines) else ""
            parts.append(line + " " * (width - _visible(line)))
        rows.append("   ".join(parts))
    return [row.rstrip() for row in rows]


def _visible(line: str) -> int:
    """Length of a line without its escape sequences."""
    length, escaped = 0, False
    for character in line:
        if character == "\x1b":
            escaped = True
        elif not escaped:
            length += 1
        elif character == "m":
            escaped = False
    return length
