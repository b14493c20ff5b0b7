"""Codec `rvq`, version 1: vectors as sums of codewords. format-spec/codecs/rvq.md."""

import math

import numpy as np

from ..errors import require
from ..tables import Model

MAX_ENTRY = 1 << 23
MAX_RICE = 24


def decode(leaf):
    """f32 values of the elements."""
    leaf.params(["dim", "groups", "stages"], closed=True)
    dim, groups, stages = leaf.uint("dim", 8, low=1), leaf.uint("groups", 16, low=1), leaf.uint("stages", 8, low=1)
    n = leaf.elements
    if groups == 1:
        rows, starts = 1, [0, -(-n // dim)]
    else:
        row = leaf.shape[-1] if leaf.shape else 1
        require(row % dim == 0, f"vectors of {dim} do not divide rows of {row}")
        per_row = row // dim
        require(n == 0 or per_row >= groups, f"{groups} groups of {per_row} vectors")
        rows = math.prod(leaf.shape[:-1])
        starts = [g * per_row // groups for g in range(groups + 1)]
    require(len(leaf.node.streams) == 1 + groups * stages, f"{len(leaf.node.streams)} streams")
    side = leaf.side(min(1 << 28, groups * stages * (520 + 1792 * dim)))
    coded = [[_read_stage(side, dim) for _ in range(stages)] for _ in range(groups)]
    side.end()
    out = np.empty((rows, starts[-1], dim), np.float32)
    for g, group in enumerate(coded):
        vectors = rows * (starts[g + 1] - starts[g])
        acc = None
        for t, (codewords, tables) in enumerate(group):
            symbols = leaf.symbols(1 + g * stages + t, vectors, Model(tables))
            require(not (symbols >= len(codewords)).any(), "a symbol without a codeword")
            part = codewords[symbols]
            with np.errstate(all="ignore"):
                acc = part if acc is None else acc + part
        out[:, starts[g]:starts[g + 1]] = acc.reshape(rows, -1, dim)
    return out.reshape(-1)[:n]


def _rice(bits, parameter):
    q = bits.ones(24)
    if q == 24:
        return bits.take(32)
    return (q << parameter) + bits.take(parameter)


def _read_stage(side, dim):
    """Codewords (size, dim), f32, and tables of a stage."""
    size = side.u8() + 1
    step = side.f32()
    require(step > 0, f"a step of {step}")
    first_rice, other_rice = side.u8(), side.u8()
    require(max(first_rice, other_rice) <= MAX_RICE, "a Rice parameter above 24")
    bits = side.bits()
    entries = np.empty((size, dim), np.int64)
    for s in range(size):
        for i in range(dim):
            if i == 0 and s > 0:
                value = int(entries[s - 1, 0]) + _rice(bits, first_rice)
            else:
                z = _rice(bits, other_rice)
                value = -(z + 1) // 2 if z & 1 else z // 2
            require(abs(value) <= MAX_ENTRY, f"an entry of {value}")
            entries[s, i] = value
    bits.finish()
    tables = side.tables(1)
    with np.errstate(all="ignore"):
        return entries.astype(np.float32) * step, tables
