"""TOML as far as its specification goes, whatever is in a file of that name."""

from imgconv.typing import Toml

_BITS = 64  # of integers; Python's reader takes any number of hexadecimal digits


def parse_toml(text: str) -> Toml:
    """The tables of a text. Raises ValueError saying what is wrong with it."""
    import tomllib

    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        raise
    except RecursionError:
        raise ValueError("nested too deeply") from None
    except ValueError:  # Python's own limit, of 4,300 decimal digits
        raise ValueError(f"an integer of more than {_BITS} bits") from None
    waiting: list[object] = [table]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            waiting.extend(value.values())
        elif isinstance(value, list):
            waiting.extend(value)
        elif isinstance(value, int) and value.bit_length() >= _BITS:
            raise ValueError(f"an integer of more than {_BITS} bits")
    return table
