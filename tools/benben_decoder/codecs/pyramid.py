"""Points of integers whose absolute values have a given sum, by their numbers. format-spec/codecs/pvq.md, "Points"."""

from functools import lru_cache

import numpy as np

# Pulses up to which a point is split into halves rather than into its first integer and the rest.
HALVES = 128


MAX_DIM = 32
# `V(n, k)` by n, for all k asked for so far.
_COUNTS = [[1] for _ in range(MAX_DIM + 1)]


def count(n, k):
    """`V(n, k)`, the number of points of `n` integers (at most 32) and `k` pulses."""
    while len(_COUNTS[0]) <= k:
        _COUNTS[0].append(0)
        for before, row in zip(_COUNTS, _COUNTS[1:]):
            row.append(before[-1] + row[-1] + before[-2])
    return _COUNTS[n][k]


@lru_cache(maxsize=2048)
def _split(n, k):
    """Integers of the first part; the first index of each number of its pulses; points of the second part for each."""
    first = (n + 1) // 2 if k <= HALVES else 1
    seconds = [count(n - first, k - j) for j in range(k + 1)]
    starts, total = [], 0
    for j, second in enumerate(seconds):
        starts.append(total)
        total += count(first, j) * second
    return first, np.array(starts, np.uint64), np.array(seconds, np.uint64)


def points(index, dim, pulses):
    """Points (groups, dim), i64, of their numbers (u64, all below V(dim, pulses)).

    Parts are taken from the longest to the shortest, all parts of one length and one number of pulses together.
    """
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
        # Sixteen bits, which numpy sorts by digits: 3 M numbers in 0.06 s instead of 0.37 s.
        order = np.argsort(left.astype(np.int16), kind="stable")
        bounds = np.flatnonzero(np.diff(left[order])) + 1
        for members in np.split(order, bounds):
            k = int(left[members[0]]) if len(members) else 0
            if k == 0:
                continue
            first, starts, seconds = _split(n, k)
            here = number[members]
            j = np.searchsorted(starts, here, side="right") - 1
            here = here - starts[j]
            second = seconds[j]
            quotient = here // second
            r, c = row[members], column[members]
            parts[first].append((r, c, j, quotient))
            parts[n - first].append((r, c + first, k - j, here - quotient * second))
    return out
