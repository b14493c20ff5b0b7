"""Codec `rvq`, version 1: vectors as sums of codewords. format-spec/codecs/rvq.md."""

import math

import numpy as np

from .. import splitmix
from ..errors import require
from ..tables import Model

MAX_ENTRY = 1 << 23
MAX_RICE = 24
MAX_SIDE = 1 << 26


def decode(leaf):
    """f32 values of the elements."""
    params = leaf.params(["dim", "groups", "stages"], closed=True, optional=["mapped"])
    dim, groups, stages = leaf.uint("dim", 8, low=1), leaf.uint("groups", 16, low=1), leaf.uint("stages", 8, low=1)
    mapped = "mapped" in params and leaf.flag("mapped")
    n = leaf.elements
    rows, starts = _rows_and_groups(leaf, dim, groups)
    vectors = [rows * (end - start) for start, end in zip(starts, starts[1:])]
    require(len(leaf.node.streams) == 1 + groups * stages, f"{len(leaf.node.streams)} streams")
    side = leaf.side(_most_side(n, dim, stages, vectors, mapped))
    coded = [[_read_stage(side, dim, mapped) for _ in range(stages)] for _ in range(groups)]
    side.end()
    out = np.empty((rows, starts[-1], dim), np.float32)
    for g, group in enumerate(coded):
        acc = None
        for t, (codewords, tables) in enumerate(group):
            symbols = leaf.symbols(1 + g * stages + t, vectors[g], Model(tables))
            require(not (symbols >= len(codewords)).any(), "a symbol without a codeword")
            require(not len(symbols) or bool(np.isfinite(codewords).all()), "a codeword that is not finite")
            part = codewords[symbols]
            with np.errstate(all="ignore"):
                acc = part if acc is None else acc + part
        out[:, starts[g]:starts[g + 1]] = acc.reshape(rows, starts[g + 1] - starts[g], dim)
    return out.reshape(-1)[:n]


def _rows_and_groups(leaf, dim, groups):
    """Rows, and the first vector within a row of each group, with the end of the last; one group is one row."""
    if groups == 1:
        return 1, [0, -(-leaf.elements // dim)]
    row = leaf.shape[-1] if leaf.shape else 1
    require(row % dim == 0, f"vectors of {dim} do not divide rows of {row}")
    per_row = row // dim
    require(leaf.elements == 0 or per_row >= groups, f"{groups} groups of {per_row} vectors")
    return math.prod(leaf.shape[:-1]), [g * per_row // groups for g in range(groups + 1)]


def _most_side(n, dim, stages, vectors, mapped):
    """The bound on the bytes of side information."""
    if mapped:
        books = len(vectors) * (800 + 7 * dim * dim)
    else:
        books = sum(32 + min(max(count, 1), 256) * (7 * dim + 3) for count in vectors)
    return min(stages * books, 4 * n + 65536, MAX_SIDE)


def _rice(bits, parameter):
    q = bits.ones(24)
    if q == 24:
        return bits.take(32)
    return (q << parameter) + bits.take(parameter)


def _read_stage(side, dim, mapped):
    """Codewords (size, dim), f32, and tables of a stage."""
    size = side.u8() + 1
    step = side.f32()
    require(step > 0, f"a step of {step}")
    seed, first_rice = (side.varint(), 0) if mapped else (0, side.u8())
    other_rice = side.u8()
    require(max(first_rice, other_rice) <= MAX_RICE, "a Rice parameter above 24")
    bits = side.bits()
    count = dim if mapped else size
    entries = np.empty((count, dim), np.int64)
    for s in range(count):
        for i in range(dim):
            if i == 0 and s > 0 and not mapped:
                value = int(entries[s - 1, 0]) + _rice(bits, first_rice)
            else:
                z = _rice(bits, other_rice)
                value = -((z + 1) // 2) if z & 1 else z // 2
            require(abs(value) <= MAX_ENTRY, f"an entry of {value}")
            entries[s, i] = value
    bits.finish()
    if mapped:
        # The eight bytes of each output of the generator make one bell-shaped number.
        octets = splitmix.outputs(seed, size * dim).view(np.uint8).reshape(size, dim, 8)
        entries = (octets.sum(axis=2, dtype=np.int64) - 1020) @ entries.T
    with np.errstate(all="ignore"):
        return entries.astype(np.float32) * step, side.tables(1)
