"""Codec `trellis`, version 1: integers of two codebooks that a trellis of eight states chooses.
format-spec/codecs/trellis.md."""

import numpy as np

from ..errors import require
from ..tables import FLIP, LANES, STATES, Model
from .scalar import unzigzag

MAX_SIDE = 1 << 16
MAX_SHIFTS = 15
MAX_COLUMN_CLASSES = 16
MAX_STEP = np.float32(2.0 ** 119)
# State after state `p` and an integer of parity `b`, at 2 p + b.
NEXT = np.array([2 * p % 8 + (b + FLIP[p]) % 2 for p in range(STATES) for b in range(2)], np.uint8)


def decode(leaf):
    """f32 values of the elements."""
    leaf.params(["step", "run", "columns", "zero", "states"])
    step = leaf.step("step", MAX_STEP)
    run = leaf.uint("run", 64, low=1)
    column_classes = leaf.uint("columns", 64, low=1, high=MAX_COLUMN_CLASSES)
    zero = leaf.flag("zero")
    trellis = 8 if leaf.flag("states") else 2
    n = leaf.elements
    if n == 0:
        return np.zeros(0, np.float32)
    rows, columns = leaf.rows_and_columns()
    side = leaf.side(MAX_SIDE)
    shifts = []
    for _ in range(2):
        count = side.varint(high=MAX_SHIFTS)
        shifts.append(np.array([0] + [side.i8() for _ in range(count)] + [0], np.float32) / np.float32(64))
    tables = side.tables()
    side.end()
    group = column_classes * trellis
    require(tables and len(tables) % group == 0, f"{len(tables)} tables where {group} make a class")
    several = len(tables) > group
    of_rows = leaf.symbols(1, -(-rows // run) if several else 0)
    of_columns = leaf.symbols(2, columns if column_classes > 1 else 0)
    model = Model(tables, min(run, max(rows, 1)) * columns, of_rows if several else None, trellis,
                  of_columns if column_classes > 1 else None, column_classes)
    symbols = leaf.symbols(3, n, model)
    odd = states(symbols, leaf.node.streams[3].chunk_items) & np.uint8(1)
    out = values(unzigzag(symbols), odd, zero, shifts, step)
    _put_exceptions(leaf, out)
    return out


def states(symbols, chunk_items):
    """State before each symbol, u8. Whole chunks go side by side, and the last one by itself."""
    out = np.empty(len(symbols), np.uint8)
    parity = ((symbols.astype(np.uint16) + 1) >> 1 & 1).astype(np.uint8)
    whole = len(symbols) // chunk_items
    for start, chunks, count in ((0, whole, chunk_items), (whole * chunk_items, 1, len(symbols) % chunk_items)):
        if chunks and count:
            end = start + chunks * count
            out[start:end] = _chunk_states(parity[start:end].reshape(chunks, count)).reshape(-1)
    return out


def _chunk_states(parity):
    chunks, count = parity.shape
    steps = -(-count // LANES)
    padded = np.zeros((chunks, steps * LANES), np.uint8)
    padded[:, :count] = parity
    lanes = np.ascontiguousarray(padded.reshape(chunks, steps, LANES).transpose(1, 0, 2))
    out = np.empty_like(lanes)
    state = np.zeros((chunks, LANES), np.uint8)
    for step in range(steps):
        out[step] = state
        state = NEXT.take((state << np.uint8(1)) + lanes[step])
    return out.transpose(1, 0, 2).reshape(chunks, -1)[:, :count]


def values(k, odd, zero, shifts, step):
    """Integers `k` of codebook 0 or 1 as values; `shifts` have 0 at both ends."""
    q = 2 * k
    if zero:
        q -= odd * np.sign(k)
    else:
        q += odd
    a = np.abs(q)
    place = (a + 1) >> 1
    d = np.where(odd, *(shifts[u][np.minimum(place, len(shifts[u]) - 1)] for u in (1, 0)))
    v = (a.astype(np.float32) + d) * step
    return np.where(q < 0, -v, v)


def _put_exceptions(leaf, out):
    positions = leaf.words(4, most=len(out) // 16 + 16)
    bits = leaf.words(5, len(positions))
    if not len(positions):
        return
    require(bool((positions[1:] > positions[:-1]).all()), "positions of exceptions that do not rise")
    require(int(positions[-1]) < len(out), f"an exception of element {positions[-1]}")
    require(not (bits >> np.uint64(32)).any(), "an exception of more than 32 bits")
    exceptions = bits.astype(np.uint32).view(np.float32)
    require(bool(np.isfinite(exceptions).all()), "an exception that is not finite")
    out[positions.astype(np.intp)] = exceptions
