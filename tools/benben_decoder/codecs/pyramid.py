"""Points of integers whose absolute values have a given sum, by their numbers. format-spec/codecs/pvq.md, "Points"."""

from functools import lru_cache

import numpy as np

# Pulses up to which a point is split into halves rather than into its first integer and the rest.
HALVES = 128


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


def _split(table, n, k):
    """Integers of the first part; the first index of each number of its pulses; points of the second part for each."""
    first = (n + 1) // 2 if k <= HALVES else 1
    starts, total = [], 0
    for j in range(k + 1):
        starts.append(total)
        total += table[first][j] * table[n - first][k - j]
    return first, np.array(starts, np.uint64), np.array([table[n - first][k - j] for j in range(k + 1)], np.uint64)


def points(index, dim, pulses):
    """Points (groups, dim), i64, of their numbers (u64, all below V(dim, pulses)).

    Parts are taken from the longest to the shortest, all parts of one length and one number of pulses together.
    """
    table = counts(dim, pulses)
    out = np.zeros((len(index), dim), np.int64)
    parts = {n: [] for n in range(1, dim + 1)}
    rows = np.arange(len(index))
    parts[dim].append((rows, np.zeros_like(rows), np.full(len(index), pulses), index))
    for n in range(dim, 0, -1):
        if not parts[n]:
            continue
        row, column, left, number = (np.concatenate(field) for field in zip(*parts.pop(n)))
        if n == 1:
            out[row, column] = np.where(number == 0, left, -left)
            break
        order = np.argsort(left, kind="stable")
        bounds = np.flatnonzero(np.diff(left[order])) + 1
        for members in np.split(order, bounds):
            k = int(left[members[0]]) if len(members) else 0
            if k == 0:
                continue
            first, starts, seconds = _split(table, n, k)
            here = number[members]
            j = np.searchsorted(starts, here, side="right") - 1
            here = here - starts[j]
            r, c = row[members], column[members]
            parts[first].append((r, c, j, here // seconds[j]))
            parts[n - first].append((r, c + first, k - j, here % seconds[j]))
    return out
