"""Codec `scalar`, version 1: a step times entropy-coded integers with centroids. format-spec/codecs/scalar.md."""

import numpy as np

from ..errors import require
from . import grid


def decode(leaf):
    """f32 values of the elements."""
    leaf.params(["step", "low_bits", "run", "column_classes"])
    step = leaf.step("step")
    low_bits = leaf.uint("low_bits", 8, high=16)
    run = leaf.uint("run", 64, low=1)
    columns = leaf.uint("column_classes", 8, low=1)
    with np.errstate(over="ignore"):
        require(bool(np.isfinite(np.float32((1 << low_bits + 7) + 1) * step)), f"a step of {step}")
    n = leaf.elements
    if n == 0:
        return np.zeros(0, np.float32)
    side = leaf.side(grid.MAX_SIDE)
    centroids = grid.read_shifts(side, side.varint(high=grid.MAX_SHIFTS), 256)
    tables = side.tables()
    side.end()
    q = grid.unzigzag(grid.read_symbols(leaf, tables, run, columns)) << low_bits
    low = leaf.words(4, n if low_bits else 0)
    if low_bits:
        require(not (low >> np.uint64(low_bits)).any(), f"low bits of more than {low_bits} bits")
        q += low.astype(np.int64)
    out = grid.values(q, centroids, step)
    grid.put_exceptions(leaf, 5, out)
    return out
