"""Codec `scalar`, version 1: a step times entropy-coded integers with centroids. format-spec/codecs/scalar.md."""

import numpy as np

from ..errors import require
from ..tables import Model

MAX_SIDE = 1 << 16
MAX_CENTROIDS = 15
ESCAPE = 255


def unzigzag(z):
    """0, 1, 2, 3, .. as 0, -1, 1, -2, .., i64."""
    z = z.astype(np.int64)
    return np.where(z & 1, -(z >> 1) - 1, z >> 1)


def decode(leaf):
    """f32 values of the elements."""
    leaf.params(["step", "low_bits", "run"])
    step = leaf.step("step")
    low_bits = leaf.uint("low_bits", 8, high=16)
    run = leaf.uint("run", 64, low=1)
    n = leaf.elements
    if n == 0:
        return np.zeros(0, np.float32)
    rows, columns = leaf.rows_and_columns()
    side = leaf.side(MAX_SIDE)
    count = side.varint(high=MAX_CENTROIDS)
    centroids = np.array([0] + [side.i8() for _ in range(count)] + [0], np.float32) / np.float32(256)
    tables = side.tables()
    side.end()
    several = len(tables) > 1
    classes = leaf.symbols(1, -(-rows // run) if several else 0)
    model = Model(tables, min(run, max(rows, 1)) * columns, classes) if several else Model(tables)
    symbols = leaf.symbols(2, n, model)
    q = unzigzag(symbols) << low_bits
    low = leaf.words(3, n if low_bits else 0)
    escapes = leaf.words(4)
    escaped = symbols == ESCAPE if len(escapes) else np.zeros(n, bool)
    if low_bits:
        require(not (low[~escaped] >> np.uint64(low_bits)).any(), f"low bits of more than {low_bits} bits")
        q += low.astype(np.int64)
    chunk_items = leaf.node.streams[2].chunk_items
    ranks = leaf.words(5, leaf.node.streams[2].chunks if len(escapes) else 0)
    if len(escapes):
        before = np.concatenate([[0], np.cumsum(escaped)])
        require(int(before[-1]) <= len(escapes), f"{before[-1]} escapes where there are {len(escapes)}")
        require(np.array_equal(ranks, before[:-1:chunk_items].astype(np.uint64)), "ranks that are not those of the escapes")
        used = escapes[:int(before[-1])]
        require(not (used >> np.uint64(32)).any(), "an escape of more than 32 bits")
        q[escaped] = unzigzag(used)
    return values(q, centroids, step)


def values(q, centroids, step):
    """Integers moved by their centroids, times the step; `centroids` has 0 at both ends."""
    a = np.abs(q)
    d = centroids[np.minimum(a, len(centroids) - 1)]
    with np.errstate(over="ignore"):
        v = (a.astype(np.float32) + d) * step
    return np.where(q < 0, -v, v)
