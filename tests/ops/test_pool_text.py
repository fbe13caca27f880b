"""Poolings as text: the functions they name, and what is wrong said in one line."""

import numpy as np
import pytest

from imgconv.errors import UsageError
from imgconv.ops import pool as pooling
from imgconv.ops import rank as ranks
from imgconv.ops.pool_kinds import KINDS
from imgconv.ops.pool_text import parse_pool
from tests.samples import draw

X = draw(np.random.default_rng(2), (2, 3, 13, 11), np.dtype(np.float32))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("max:2", lambda x: pooling.max_pool2d(x, 2)),
        ("MAX : 3x2, stride=2x1,padding=1", lambda x: pooling.max_pool2d(x, (3, 2), (2, 1), 1)),
        ("max:3,stride=2,dilation=2,ceil_mode=true",
         lambda x: pooling.max_pool2d(x, 3, 2, 0, 2, True)),
        ("min:2,padding=1x0x1x0", lambda x: pooling.min_pool2d(x, 2, None, (1, 0, 1, 0))),
        ("max:3,5", lambda x: pooling.max_pool2d(x, (3, 5))),
        ("max:3,2, stride = 2,1 ,padding=1,0,ceil_mode=1",
         lambda x: pooling.max_pool2d(x, (3, 2), (2, 1), (1, 0), 1, True)),
        ("avg:stride=1,2,size=2,3", lambda x: pooling.avg_pool2d(x, (2, 3), (1, 2))),
        ("min:2,padding=1,0,1,0", lambda x: pooling.min_pool2d(x, 2, None, (1, 0, 1, 0))),
        ("adaptive-avg:3,4", lambda x: pooling.adaptive_avg_pool2d(x, (3, 4))),
        ("avg:3,padding=1,count-include-pad=false",
         lambda x: pooling.avg_pool2d(x, 3, None, 1, False, False)),
        ("avg:2,divisor_override=3",
         lambda x: pooling.avg_pool2d(x, 2, divisor_override=3)),
        ("lp:2,p=3", lambda x: pooling.lp_pool2d(x, 3, 2)),
        ("lp:2", lambda x: pooling.lp_pool2d(x, 2, 2)),
        ("adaptive-max:3x4", lambda x: pooling.adaptive_max_pool2d(x, (3, 4))),
        ("adaptive_avg:5", lambda x: pooling.adaptive_avg_pool2d(x, 5)),
        ("global-avg", pooling.global_avg_pool2d),
        ("median:3,stride=1", lambda x: ranks.median_pool2d(x, 3, 1)),
        ("rank:2x3,rank=-2", lambda x: ranks.rank_pool2d(x, -2, (2, 3))),
        ("range:3", lambda x: ranks.range_pool2d(x, 3)),
        ("erode:3", lambda x: pooling.min_pool2d(x, 3, 1, 1)),
        ("dilate:4,3", lambda x: pooling.max_pool2d(x, (4, 3), 1, (2, 1, 1, 1))),
        ("dilate:3,dilation=2", lambda x: pooling.max_pool2d(x, 3, 1, (2, 2, 2, 2), 2)),
        ("morphological-gradient:5", lambda x: ranks.range_pool2d(x, 5, 1, 2)),
        ("global-max", pooling.global_max_pool2d),
    ],
)  # fmt: skip
def test_a_text_is_the_function_it_names(text, expected):
    np.testing.assert_array_equal(parse_pool(text)(X), expected(X))


def test_every_kind_takes_an_interleaved_image():
    for kind in KINDS:
        rank = ",rank=1" * (kind == "rank")
        pool = parse_pool(kind if kind.startswith("global") else f"{kind}:2{rank}")
        expected = pool(X[0]).transpose(1, 2, 0)
        np.testing.assert_array_equal(pool.image(X[0].transpose(1, 2, 0)), expected)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("mode:2", "expected one of max, avg, min"),
        ("rank:3", "no rank, expected rank:SIZE,rank=N"),
        ("rank:3,rank=9", "rank=9, expected -9 to 8"),
        ("median:3,missing=1", "'missing=1', expected a size, stride="),
        ("max", "no size, expected max:SIZE"),
        ("max:two", "size='two', expected one whole number or a pair N,N"),
        ("max:3,5,7", "size='3,5,7', expected one whole number or a pair N,N"),
        ("max:3x5,7", "size='3x5,7', expected one whole number or a pair N,N"),
        ("max:2,stride=2,1,3", "stride='2,1,3', expected one whole number or a pair N,N"),
        ("max:2,padding=1,1,1", "padding='1,1,1', expected one whole number or a pair N,N or four"),
        ("max:2,stride=2,stride=3", "stride= twice"),
        ("max:2,size=3", "'size=3' is the second size"),
        ("max:2,,stride=1", "nothing between two commas"),
        ("max:2,stride=", "no value after stride="),
        ("max:2,stride=1_0", "stride='1_0'"),
        ("avg:2,divisor_override=0", "divisor_override=0: expected another number"),
        ("avg:2,divisor_override=3,4", "divisor_override='3,4', expected one whole number"),
        ("lp:2,p=2,3", "p='2,3', expected a number"),
        ("max:3,padding=2", "padding=2 with kernel_size=3, expected at most 1: half of it"),
        ("max:3,padding=2,dilation=4", "padding=2 with kernel_size=3, expected at most 1"),
        ("max:2,padding=0,2,0,0", "padding=2 with kernel_size=2, expected at most 1: less than"),
        ("max:2,step=2", "'step=2', expected a size, stride=, padding=, dilation=, ceil_mode="),
        ("max:0", "kernel_size=0"),
        ("avg:2,stride=0", "stride=0"),
        ("avg:2,ceil_mode=maybe", "maybe"),
        ("global-avg:2", "'2', expected nothing"),
        ("max:2,return_indices=true", "return_indices"),
        ("min:2,p=3", "'p=3', expected a size"),
    ],
)
def test_what_is_wrong_with_a_text_is_named(text, says):
    with pytest.raises(UsageError) as caught:
        parse_pool(text)
    assert says in str(caught.value)
