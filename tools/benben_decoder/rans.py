"""rANS of 32 lanes: format-spec/entropy.md, section 5.

Chunks are independent, so many of them are decoded side by side: each step takes one symbol from each of 32 lanes of
each chunk, as numpy arrays of shape (chunks, 32).
"""

import numpy as np

from .errors import require
from .tables import LANES, NEXT_STATE, TOTAL

LOWEST = 1 << 16


def decode(payloads, count, lookup, rows, trellis):
    """Symbols (chunks, count), u8, of payloads that all have `count` symbols.

    `lookup` is that of the model; `rows` is 0, or an array (chunks, count) of numbers of tables, to which the
    trellis of `trellis` tables adds.
    """
    chunks = len(payloads)
    for payload in payloads:
        require(len(payload) >= 4 * LANES and len(payload) % 2 == 0, f"a rANS payload of {len(payload)} bytes")
    state = np.stack([np.frombuffer(payload, "<u4", LANES) for payload in payloads]).astype(np.int64)
    require(int(state.min()) >= LOWEST, "a rANS lane begins below 2^16")
    words = np.concatenate([np.frombuffer(payload, "<u2", offset=4 * LANES) for payload in payloads]).astype(np.int64)
    ends = np.cumsum([(len(payload) - 4 * LANES) // 2 for payload in payloads])[:, None]
    # One before the next word, so that a running count of those who need a word gives its place.
    before = np.concatenate([[[0]], ends[:-1]]) - 1
    if len(words) == 0:
        words = np.zeros(1, np.int64)
    symbols, frequency, offset = lookup
    steps = -(-count // LANES)
    tables = None
    if not np.isscalar(rows):
        padded = np.zeros((chunks, steps * LANES), np.int64)
        padded[:, :count] = rows * TOTAL
        tables = np.ascontiguousarray(padded.reshape(chunks, steps, LANES).transpose(1, 0, 2))
    path = np.zeros((chunks, LANES), np.int64)
    mask = trellis - 1
    out = np.empty((steps, chunks, LANES), np.uint8)
    for step in range(steps):
        width = min(LANES, count - step * LANES)
        x = state if width == LANES else state[:, :width]
        slot = x & (TOTAL - 1)
        if tables is not None:
            slot += tables[step, :, :width]
        if trellis > 1:
            p = path[:, :width]
            slot += (p & mask) * TOTAL
        s = symbols.take(slot)
        x = (x >> 12) * frequency.take(slot) + offset.take(slot)
        need = x < LOWEST
        place = need.cumsum(axis=1) + before
        # A place past the end is caught below, by the count of the words.
        x = np.where(need, (x << 16) | words.take(place, mode="clip"), x)
        before = place[:, -1:]
        out[step, :, :width] = s
        if trellis > 1:
            path[:, :width] = NEXT_STATE.take((p << 8) | s)
        if width == LANES:
            state = x
        else:
            state[:, :width] = x
    require(np.array_equal(before + 1, ends), "a rANS payload has another number of words than its symbols take")
    require(bool((state == LOWEST).all()), "a rANS lane does not end at 2^16")
    return np.ascontiguousarray(out.transpose(1, 0, 2)).reshape(chunks, steps * LANES)[:, :count]
