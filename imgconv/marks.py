"""What a file of arrays is, by the marks that its own format puts first."""

from typing import Literal

Kind = Literal["safetensors", "npz", "npy", "pickle", ""]

PREFIX = 9  # bytes of a file that decide
PICKLED = (
    "holds pickled Python objects, which are never loaded; where it came from, "
    "safetensors.torch.save_file(model.state_dict(), …) makes a file that is"
)


def kind_of(prefix: bytes) -> Kind:
    """Return the kind of a file from its first PREFIX bytes; "" where it bears none of the marks.

    npz is any ZIP archive, which is what `torch.save` writes too; its members tell them apart.
    """
    # A safetensors file begins with any number below 2³², as 8 bytes, and then "{". It goes first:
    # such a number may well begin as a pickle or an archive does, while neither of these has four
    # zeros and a brace behind it (an archive's version there is 10 or more).
    if prefix[4:PREFIX] == b"\0\0\0\0{":
        return "safetensors"
    if prefix[:4] == b"PK\x03\x04":
        return "npz"
    if prefix[:6] == b"\x93NUMPY":
        return "npy"
    # Protocol 2 and later; older ones are text without a mark.
    if prefix[:1] == b"\x80":
        return "pickle"
    return ""
