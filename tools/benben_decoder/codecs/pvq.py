"""Codec `pvq`, version 1: groups as points of integers, numbered with a gain or coded by themselves.
format-spec/codecs/pvq.md."""

import numpy as np

from ..errors import require
from ..node import SYMBOLS
from ..tables import Model
from . import grid
from .pyramid import count, points

MAX_STEP = 2.0 ** 112
MAX_PULSES = 4096
MAX_GAIN_TABLES = 16
U64 = np.uint64


class _Classes:
    """First gain symbol, pulses, and split of the index of each class; class 0 has no pulses."""

    def __init__(self, side, dim, head_bits, classes):
        self.first, self.pulses, self.total = [0], [0], [1]
        for _ in range(classes):
            first, pulses = side.u8(), side.varint(1, MAX_PULSES)
            require(first > self.first[-1], "classes whose first symbols do not rise")
            total = count(dim, pulses)
            require(total < 1 << 64, f"{pulses} pulses in {dim} coordinates have more points than 2^64")
            self.first.append(first)
            self.pulses.append(pulses)
            self.total.append(total)
        widths = [(total - 1).bit_length() for total in self.total]
        self.tail = np.array([max(0, w - head_bits) for w in widths], np.int64)
        self.head_limit = np.array([1 << w - t for w, t in zip(widths, self.tail.tolist())], np.int64)


def decode(leaf):
    """f32 values of the elements."""
    form = leaf.params(["dim", "form"], closed=True)["form"]
    require(form in ("numbered", "pulses"), f"the form {form!r} is not known")
    dim = leaf.uint("dim", 8, low=1, high=32)
    return _numbered(leaf, dim) if form == "numbered" else _pulses(leaf, dim)


def _step(side):
    step = side.f32()
    require(0 < step < MAX_STEP, f"a step of {step}")
    return step


def _pulses(leaf, dim):
    groups = -(-leaf.elements // dim)
    side = leaf.side(grid.MAX_SIDE)
    step = _step(side)
    run = side.varint(1, (1 << 32) - 1)
    shifts = grid.read_shifts(side, side.u8(), 256)
    class_tables = side.tables(1)
    pulse_tables = side.tables()
    require(pulse_tables, "no table of pulses")
    side.end()
    several = len(pulse_tables) > 1
    classes = leaf.symbols(1, -(-groups // run) if several else 0, Model(class_tables))
    require(not (classes >= len(pulse_tables)).any(), "a class without a table")
    symbols = leaf.symbols(2, leaf.elements, Model(pulse_tables, run * dim, classes if several else None))
    return grid.values(grid.unzigzag(symbols), shifts, step)


def _numbered(leaf, dim):
    n = leaf.elements
    groups = -(-n // dim)
    side = leaf.side(grid.MAX_SIDE)
    step = _step(side)
    head_bits = side.u8()
    require(head_bits <= 8, f"heads of {head_bits} bits")
    run = side.varint(1, (1 << 32) - 1)
    class_count = side.u8()
    require(class_count <= 15, f"{class_count} classes")
    classes = _Classes(side, dim, head_bits, class_count)
    gain_tables = side.tables(MAX_GAIN_TABLES)
    require(gain_tables, "no table of gains")
    head_tables = side.tables()
    require(len(head_tables) == (class_count + 1 if head_bits else 0), f"{len(head_tables)} tables of heads")
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
    for number in range(1, class_count + 1):
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
