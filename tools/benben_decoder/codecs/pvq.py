"""Codec `pvq`, version 1: groups as a gain and a point of a pyramid. format-spec/codecs/pvq.md."""

from functools import lru_cache

import numpy as np

from ..errors import require
from ..node import SYMBOLS
from ..tables import Model

MAX_SIDE = 1 << 16
MAX_STEP = 2.0 ** 112
MAX_PULSES = 4096
MAX_GAIN_TABLES = 16
U64 = np.uint64


@lru_cache(maxsize=64)
def counts(dim, pulses):
    """`V(n, k)` for n = 0 .. `dim` and k = 0 .. `pulses`, as lists of integers."""
    rows = [[1] + [0] * pulses]
    for _ in range(dim):
        before, row = rows[-1], [1]
        for k in range(1, pulses + 1):
            row.append(before[k] + row[k - 1] + before[k - 1])
        rows.append(row)
    return rows


def points(index, dim, pulses):
    """Points (groups, dim), i64, of their numbers (u64, all below V(dim, pulses))."""
    table = counts(dim, pulses)
    out = np.zeros((len(index), dim), np.int64)
    index = index.copy()
    left = np.full(len(index), pulses, np.int64)
    for i in range(dim):
        v = np.array(table[dim - 1 - i], U64)
        # Two points for each sign come after those whose coordinate is 0; sums[j] counts points of 0 .. j pulses.
        sums = np.cumsum(v)
        moved = (left > 0) & (index >= v[left])
        here, rest = index[moved], left[moved]
        here = here - v[rest]
        reach = sums[rest - 1]
        after = np.searchsorted(sums, reach - (here >> U64(1)), side="left")
        here = here - U64(2) * (reach - sums[after])
        negative = here >= v[after]
        index[moved] = np.where(negative, here - v[after], here)
        out[moved, i] = np.where(negative, after - rest, rest - after)
        left[moved] = after
    return out


class _Classes:
    """First gain symbol, pulses, and split of the index of each class; class 0 has no pulses."""

    def __init__(self, side, dim, head_bits, count):
        self.first, self.pulses, self.total = [0], [0], [1]
        for _ in range(count):
            first, pulses = side.u8(), side.varint(1, MAX_PULSES)
            require(first > self.first[-1], "classes whose first symbols do not rise")
            total = counts(dim, pulses)[dim][pulses]
            require(total < 1 << 64, f"{pulses} pulses in {dim} coordinates have more points than 2^64")
            self.first.append(first)
            self.pulses.append(pulses)
            self.total.append(total)
        widths = [(total - 1).bit_length() for total in self.total]
        self.tail = np.array([max(0, w - head_bits) for w in widths], np.int64)
        self.head_limit = np.array([1 << w - t for w, t in zip(widths, self.tail.tolist())], np.int64)


def decode(leaf):
    """f32 values of the elements."""
    leaf.params(["dim"], closed=True)
    dim = leaf.uint("dim", 8, low=1, high=32)
    n = leaf.elements
    groups = -(-n // dim)
    side = leaf.side(MAX_SIDE)
    step = side.f32()
    require(0 < step < MAX_STEP, f"a step of {step}")
    head_bits = side.u8()
    require(head_bits <= 8, f"heads of {head_bits} bits")
    run = side.varint(1, (1 << 32) - 1)
    count = side.u8()
    require(count <= 15, f"{count} classes")
    classes = _Classes(side, dim, head_bits, count)
    gain_tables = side.tables(MAX_GAIN_TABLES)
    require(gain_tables, "no table of gains")
    head_tables = side.tables()
    require(len(head_tables) == (count + 1 if head_bits else 0), f"{len(head_tables)} tables of heads")
    side.end()
    bands = leaf.symbols(1, -(-groups // run) if len(gain_tables) > 1 else 0)
    require(not (bands >= len(gain_tables)).any(), "a band without a table")
    gain_stream, head_stream = leaf.stream(2, SYMBOLS, groups), leaf.stream(3, SYMBOLS, groups)
    require(gain_stream.chunk_items == head_stream.chunk_items, "gains and heads in different chunks")
    gains = leaf.symbols(2, groups, Model(gain_tables, run, bands if len(gain_tables) > 1 else None))
    group_class = np.searchsorted(np.array(classes.first), gains, side="right") - 1
    heads = leaf.symbols(3, groups, Model(head_tables, 1, group_class))
    require(not (heads >= classes.head_limit[group_class]).any(), "a head past the points")
    levels, tails = _tails(leaf, gain_stream, gains, classes.tail[group_class])
    out = np.zeros((groups, dim), np.float32)
    for number in range(1, count + 1):
        members = np.flatnonzero(group_class == number)
        if len(members) == 0:
            continue
        tail = int(classes.tail[number])
        index = tails[members] | (heads[members].astype(U64) << U64(tail) if tail < 64 else U64(0))
        require(not (index >= U64(classes.total[number])).any(), "an index without a point")
        point = points(index, dim, classes.pulses[number])
        square = (point * point).sum(axis=1).astype(np.float64)
        scale = (levels[members].astype(np.float64) * np.float64(step) / np.sqrt(square)).astype(np.float32)
        out[members] = scale[:, None] * point.astype(np.float32)
    return out.reshape(-1)[:n]


def _tails(leaf, stream, gains, tail_bits):
    """Levels and tails of all groups."""
    s = gains.astype(np.int64)
    open_bits = np.where(s < 64, 0, s // 16 - 2)
    starts = leaf.words(4, max(0, stream.chunks - 1))
    words = leaf.words(5)
    levels, tails = np.empty(len(s), np.int64), np.empty(len(s), U64)
    for chunk in range(stream.chunks):
        part = slice(chunk * stream.chunk_items, (chunk + 1) * stream.chunk_items)
        widths = np.stack([open_bits[part], tail_bits[part]], axis=1).reshape(-1)
        ends = np.cumsum(widths)
        used = -(-int(ends[-1]) // 64)
        start = int(starts[chunk - 1]) if chunk else 0
        require(not used or start + used <= len(words), "tails past the last word")
        mine = np.concatenate([words[start:start + used], np.zeros(2, U64)])
        fields = _fields(mine, ends - widths, widths).reshape(-1, 2)
        opened = fields[:, 0].astype(np.int64)
        here = s[part]
        levels[part] = np.where(here < 64, here, ((16 + here % 16) << open_bits[part]) + opened)
        tails[part] = fields[:, 1]
    return levels, tails


def _fields(words, starts, widths):
    """Fields of 0 to 64 bits from bit `starts` on; two words of zeros end `words`."""
    place, shift = starts >> 6, (starts & 63).astype(U64)
    low = words[place] >> shift
    # In two shifts, as a shift by 64 is not defined.
    high = words[place + 1] << (U64(63) - shift) << U64(1)
    widths = widths.astype(U64)
    mask = np.where(widths > 0, ~U64(0) >> (U64(64) - np.maximum(widths, U64(1))), U64(0))
    return (low | high) & mask
