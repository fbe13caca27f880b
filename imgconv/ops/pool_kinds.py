"""Pools by the names that texts have for them (`pool_text`)."""

from collections.abc import Callable
from typing import Any

from imgconv.ops import pool, rank

KINDS: dict[str, Callable[..., Any]] = {
    "max": pool.max_pool2d,
    "avg": pool.avg_pool2d,
    "min": pool.min_pool2d,
    "lp": pool.lp_pool2d,
    "median": rank.median_pool2d,
    "rank": rank.rank_pool2d,
    "range": rank.range_pool2d,
    "adaptive-max": pool.adaptive_max_pool2d,
    "adaptive-avg": pool.adaptive_avg_pool2d,
    "global-max": pool.global_max_pool2d,
    "global-avg": pool.global_avg_pool2d,
}
# Names of morphology → kinds.
MORPHOLOGY = {"erode": "min", "dilate": "max", "morphological-gradient": "range"}
