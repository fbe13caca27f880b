"""Window arithmetic against PyTorch's documented formulas and hand-worked cases."""

import pytest

from imgconv.errors import ShapeError
from imgconv.shapes import ReceptiveField, Sides, output_size, pair, resolve_padding


def test_same_padding_with_an_even_kernel_pads_the_far_side_more():
    assert resolve_padding("same", (4, 3)) == Sides(1, 2, 1, 1)


def test_full_padding_is_the_extent_minus_one():
    assert resolve_padding("full", (3, 2), (2, 1)) == Sides(4, 4, 1, 1)


def test_same_padding_refuses_a_stride():
    with pytest.raises(ShapeError, match="stride=2,2"):
        resolve_padding("same", (3, 3), stride=(2, 2))


@pytest.mark.parametrize("value", [0, (1, 0), (1, 2, 3), ()])
def test_a_pair_names_what_it_got(value):
    with pytest.raises(ShapeError, match="stride="):
        pair(value, "stride")


def test_ceil_mode_drops_a_window_that_starts_in_the_far_padding():
    pads = Sides(1, 1, 1, 1)
    assert output_size((5, 6), (2, 2), (2, 2), pads, ceil_mode=True) == (3, 4)
    assert output_size((5, 5), (3, 3), (2, 2)) == (2, 2)


def test_kernel_larger_than_the_input_names_both_sizes():
    with pytest.raises(ShapeError, match=r"spans 7 .* width is 5"):
        output_size((9, 5), (3, 7))


def test_receptive_field_of_three_layers_worked_by_hand():
    field = ReceptiveField().through(3, 1, 1).through(2, 2, 0).through(3, 1, 1)
    assert (field.size, field.jump, field.start) == (8, 2, 0.5)
