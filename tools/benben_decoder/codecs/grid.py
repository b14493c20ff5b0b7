"""What codecs of entropy-coded integers have in common: integers and their shifts, classes of rows and columns,
exceptions. format-spec/codecs/scalar.md, trellis.md and pvq.md (form pulses)."""

import numpy as np

from ..errors import require
from ..tables import Model

MAX_SIDE = 1 << 16
MAX_SHIFTS = 15


def unzigzag(z):
    """0, 1, 2, 3, .. as 0, -1, 1, -2, .., i64."""
    z = z.astype(np.int64)
    return np.where(z & 1, -(z >> 1) - 1, z >> 1)


def read_shifts(side, count, parts):
    """`count` shifts in units of 1/`parts`, with 0 at both ends: for magnitudes 0, 1 .. `count`, and above."""
    require(count <= MAX_SHIFTS, f"{count} shifts")
    return np.array([0] + [side.i8() for _ in range(count)] + [0], np.float32) / np.float32(parts)


def values(q, shifts, step):
    """Integers moved by the shifts of their magnitudes, times the step."""
    a = np.abs(q)
    d = shifts[np.minimum(a, len(shifts) - 1)]
    v = (a.astype(np.float32) + d) * step
    return np.where(q < 0, -v, v)


def read_symbols(leaf, tables, run, columns, trellis=1):
    """Stream 3, symbols of all elements, by classes of rows (stream 1) and `columns` classes of columns (stream 2)."""
    group = columns * trellis
    require(tables and len(tables) % group == 0, f"{len(tables)} tables where {group} make a class")
    row_count, column_count = leaf.rows_and_columns()
    several = len(tables) > group
    of_rows = leaf.symbols(1, -(-row_count // run) if several else 0)
    of_columns = leaf.symbols(2, column_count if columns > 1 else 0)
    model = Model(tables, min(run, max(row_count, 1)) * column_count, of_rows if several else None, trellis,
                  of_columns if columns > 1 else None, columns)
    return leaf.symbols(3, leaf.elements, model)


def put_exceptions(leaf, first, out):
    """Sets the values of the exceptions: positions in stream `first`, bits in the next."""
    positions = leaf.words(first, most=len(out) // 16 + 16)
    bits = leaf.words(first + 1, len(positions))
    if not len(positions):
        return
    require(bool((positions[1:] > positions[:-1]).all()), "positions of exceptions that do not rise")
    require(int(positions[-1]) < len(out), f"an exception of element {positions[-1]}")
    require(not (bits >> np.uint64(32)).any(), "an exception of more than 32 bits")
    exceptions = bits.astype(np.uint32).view(np.float32)
    require(bool(np.isfinite(exceptions).all()), "an exception that is not finite")
    out[positions.astype(np.intp)] = exceptions
