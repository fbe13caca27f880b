"""What a file lacks at its end. Decoders accept files that lost it; a truncated download should not
pass for an image.

Each check walks the container's own structure and returns what is missing, or None.
"""

NO_TRAILER = "no trailer"  # of a GIF whose frames are all there
_EXTENSION, _DESCRIPTOR, _TRAILER = 0x21, 0x2C, 0x3B


def missing_end(kind: str, data: bytes) -> str | None:
    """Return what a file of `kind` (PNG, JPEG, GIF, WEBP, QOI) lacks at its end, or None."""
    check = {"PNG": _png, "JPEG": _jpeg, "GIF": _gif, "WEBP": _webp, "QOI": _qoi}.get(kind)
    return check(data) if check else None


def _png(data: bytes) -> str | None:
    return None if data.rfind(b"IEND\xaeB`\x82") > 0 else "no IEND chunk"


def _jpeg(data: bytes) -> str | None:
    """The end-of-image marker has to follow the scans; a thumbnail's own does not count."""
    position = 2
    while position + 4 <= len(data):
        if data[position] != 0xFF:
            position += 1
            continue
        marker = data[position + 1]
        if marker == 0xD9:
            return None
        if marker in (0x00, 0x01, 0xFF) or 0xD0 <= marker <= 0xD8:
            position += 1 if marker == 0xFF else 2
            continue
        position += 2 + int.from_bytes(data[position + 2 : position + 4], "big")
        if marker == 0xDA:
            break
    return None if data.find(b"\xff\xd9", position) >= 0 else "no end-of-image marker"


def _webp(data: bytes) -> str | None:
    declared = int.from_bytes(data[4:8], "little") + 8
    return f"{declared} bytes declared, {len(data)} present" if declared > len(data) else None


def _qoi(data: bytes) -> str | None:
    return None if data.endswith(bytes(7) + b"\1") else "no end marker"


def _gif(data: bytes) -> str | None:
    """Walk blocks to the trailer. Rubbish between blocks is skipped, as decoders do."""
    if len(data) < 13:
        return "no header"
    position = 13 + _gif_table(data[10])
    while position < len(data):
        block = data[position]
        if block == _TRAILER:
            return None
        if block == _EXTENSION:
            position = _gif_skip(data, position + 2)
        elif block == _DESCRIPTOR:
            if position + 10 > len(data):
                break
            position = _gif_skip(data, position + 11 + _gif_table(data[position + 9]))
        else:
            position += 1
    return NO_TRAILER if position == len(data) else "it ends within a frame"


def _gif_table(flags: int) -> int:
    return 3 << (1 + (flags & 7)) if flags & 0x80 else 0


def _gif_skip(data: bytes, position: int) -> int:
    """Return the position after a run of sub-blocks."""
    while position < len(data) and data[position]:
        position += 1 + data[position]
    return position + 1


def progressive_to_the_end(data: bytes) -> bool:
    """Whether a JPEG's scans, if it comes in several, bring every coefficient to its last bit.

    Source: ITU-T T.81, sections B.2.3 and G.1.1.1.
    """
    position, components = 2, 0
    exact: set[tuple[int, int]] = set()  # component, coefficient
    progressive = False
    while position + 4 <= len(data):
        if data[position] != 0xFF or data[position + 1] in (0x00, 0xFF) or (
            0xD0 <= data[position + 1] <= 0xD7
        ):  # fmt: skip
            position = max(data.find(b"\xff", position + 1), 0) or len(data)
            continue
        marker = data[position + 1]
        body = data[position + 4 : position + 2 + _word(data, position + 2)]
        if marker in (0xC0, 0xC1, 0xC2, 0xC9, 0xCA) and len(body) > 5:
            progressive, components = marker in (0xC2, 0xCA), body[5]
        if marker == 0xDA and body and len(body) >= 4 + 2 * body[0]:
            first, last, bits = body[1 + 2 * body[0] :][:3]
            if not progressive:
                first, last, bits = 0, 63, 0
            if bits & 15 == 0:
                named = body[1 : 1 + 2 * body[0] : 2]
                exact |= {(one, at) for one in named for at in range(first, min(last, 63) + 1)}
        position += 2 + len(body) + 2
    return components > 0 and len(exact) == 64 * components


def _word(data: bytes, position: int) -> int:
    return int.from_bytes(data[position : position + 2], "big")
