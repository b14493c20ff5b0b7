"""Codec `raw`, version 1: elements of any dtype, bit for bit. format-spec/codecs/raw.md."""

import numpy as np

from ..dtypes import SIZES, bits_type
from ..errors import corruption, require
from ..node import SYMBOLS
from ..tables import Model

# Exponent and mantissa bits.
FLOATS = {"f64": (11, 52), "f32": (8, 23), "f16": (5, 10), "bf16": (8, 7), "f8e4m3": (4, 3), "f8e5m2": (5, 2)}
MAX_RUNS = 1 << 24
MAX_SIDE = 1 << 15


def decode(leaf):
    """Bits of the elements."""
    layout = leaf.params(["layout"])["layout"]
    size = SIZES[leaf.dtype]
    if layout == "bytes":
        return leaf.records(0, size, leaf.elements).reshape(-1).view(bits_type(leaf.dtype))
    decoders = {"float": _float, "integer": _integer, "palette": _palette}
    if not isinstance(layout, str) or layout not in decoders:
        raise corruption(f"the layout {layout!r} is not known")
    return decoders[layout](leaf, 8 * size).astype(bits_type(leaf.dtype))


class _Parts:
    """Symbols, and rests of `rest_bits` bits put together from their planes."""

    def __init__(self, leaf, rest_bits, palette_size=None):
        n = leaf.elements
        planes = -(-rest_bits // 8)
        leaf.params(["run"])
        run = leaf.uint("run", 64)
        side = leaf.side(MAX_SIDE)
        tables = side.tables()
        plane_tables = [side.tables(1) for _ in range(planes)]
        self.palette = None
        if palette_size:
            self.palette = np.frombuffer(side.bytes((side.u8() + 1) * palette_size), f"<u{palette_size}")
        side.end()
        several = len(tables) > 1
        require(not several or run >= 1, "runs of no elements")
        runs = -(-n // run) if several else 0
        require(runs <= MAX_RUNS, f"{runs} runs")
        items = {leaf.stream(2 + p, SYMBOLS, n).chunk_items for p in range(1 + planes)}
        require(len(items) == 1, "streams of different chunks")
        classes = leaf.symbols(1, runs)
        self.symbols = leaf.symbols(2, n, Model(tables, run, classes) if several else Model(tables)).astype(np.uint64)
        self.rest = np.zeros(n, np.uint64)
        for p in range(planes):
            plane = leaf.symbols(3 + p, n, Model(plane_tables[p]))
            if p == 0:
                bits = (rest_bits - 1) % 8 + 1
                require(not (plane >> np.uint8(bits - 1) >> np.uint8(1)).any(), f"a rest of more than {rest_bits} bits")
            self.rest = self.rest << np.uint64(8) | plane


def _float(leaf, width):
    require(leaf.dtype in FLOATS, f"layout float of dtype {leaf.dtype!r}")
    exponent, mantissa = FLOATS[leaf.dtype]
    leaf.params(["mantissa", "lowest"])
    m = leaf.uint("mantissa", 8, high=min(mantissa, 3))
    lowest = leaf.uint("lowest", 16, high=(1 << exponent) - 1)
    low = mantissa - m
    parts = _Parts(leaf, low + 1)
    most = ((1 << exponent) - lowest << m) - 1
    require(not (parts.symbols > most).any(), "an exponent past the type")
    sign = parts.rest >> np.uint64(low) << np.uint64(width - 1)
    upper = np.uint64(lowest << m) + parts.symbols << np.uint64(low)
    return sign | upper | parts.rest & np.uint64((1 << low) - 1)


def _integer(leaf, width):
    leaf.params(["zigzag", "offset", "low"])
    zigzag = leaf.flag("zigzag")
    offset = leaf.uint("offset", 64, high=(1 << width) - 1)
    low = leaf.uint("low", 8, high=width - 8)
    parts = _Parts(leaf, low)
    u = parts.symbols << np.uint64(low) | parts.rest
    if zigzag:
        # -(u + 1) / 2 of odd u, modulo 2^64, is the complement of u / 2.
        u = np.where(u & np.uint64(1), ~(u >> np.uint64(1)), u >> np.uint64(1))
    return (u + np.uint64(offset)) & np.uint64((1 << width) - 1)


def _palette(leaf, width):
    parts = _Parts(leaf, 0, width // 8)
    require(not (parts.symbols >= len(parts.palette)).any(), "a symbol past the palette")
    return parts.palette[parts.symbols.astype(np.intp)]
