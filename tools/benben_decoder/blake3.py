"""BLAKE3, unkeyed, 32 bytes of output, from its public specification (O'Connor, Aumasson, Neves, Wilcox-O'Hearn,
"BLAKE3: one function, fast everywhere"), section 2.

The chunks of 1024 bytes are independent of each other, so each step of the compression runs over all of them at once
as numpy arrays; so does each level of the tree. Roots and segments: format-spec/container.md, sections 5 and 7.
"""

import numpy as np

IV = np.array([0x6A09E667, 0xBB67AE85, 0x3C6EF372, 0xA54FF53A, 0x510E527F, 0x9B05688C, 0x1F83D9AB, 0x5BE0CD19],
              dtype=np.uint32)
CHUNK_START, CHUNK_END, PARENT, ROOT = 1, 2, 4, 8
PERMUTATION = [2, 6, 3, 10, 7, 0, 4, 13, 1, 11, 12, 5, 9, 14, 15, 8]
CHUNK = 1024
BLOCK = 64
# Chunks that are hashed together: 4 MiB of input, which stays near the caches.
BATCH = 4096


def _schedules():
    rounds, order = [], list(range(16))
    for _ in range(7):
        rounds.append([order[0:8:2], order[1:8:2], order[8:16:2], order[9:16:2]])
        order = [order[i] for i in PERMUTATION]
    return rounds


SCHEDULES = _schedules()


def _rotate(x, bits):
    return (x >> np.uint32(bits)) | (x << np.uint32(32 - bits))


def _quarter(a, b, c, d, mx, my):
    a = a + b + mx
    d = _rotate(d ^ a, 16)
    c = c + d
    b = _rotate(b ^ c, 12)
    a = a + b + my
    d = _rotate(d ^ a, 8)
    c = c + d
    b = _rotate(b ^ c, 7)
    return a, b, c, d


def compress(cv, block, counter, length, flags):
    """The chaining values (8, M) after blocks (16, M) of M inputs; `counter` is an array of M, the rest scalars."""
    width = block.shape[1]
    a, b = cv[:4], cv[4:]
    c = np.repeat(IV[:4, None], width, axis=1)
    d = np.empty((4, width), np.uint32)
    d[0] = counter & np.uint64(0xFFFFFFFF)
    d[1] = counter >> np.uint64(32)
    d[2] = length
    d[3] = flags
    for x0, y0, x1, y1 in SCHEDULES:
        a, b, c, d = _quarter(a, b, c, d, block[x0], block[y0])
        b, c, d = np.roll(b, -1, 0), np.roll(c, -2, 0), np.roll(d, -3, 0)
        a, b, c, d = _quarter(a, b, c, d, block[x1], block[y1])
        b, c, d = np.roll(b, 1, 0), np.roll(c, 2, 0), np.roll(d, 3, 0)
    return np.concatenate([a ^ c, b ^ d])


def _start(width):
    return np.repeat(IV[:, None], width, axis=1)


def _whole_chunks(data, first):
    """Chaining values (8, M) of M whole chunks, the first of number `first`."""
    count = len(data) // CHUNK
    words = np.frombuffer(data, "<u4").reshape(count, 16, 16)
    counter = np.arange(first, first + count, dtype=np.uint64)
    cv = _start(count)
    for i in range(16):
        flags = (CHUNK_START if i == 0 else 0) | (CHUNK_END if i == 15 else 0)
        cv = compress(cv, np.ascontiguousarray(words[:, i].T), counter, BLOCK, flags)
    return cv


def _last_chunk(data, number, root):
    """Chaining value (8, 1) of the last chunk, of 0 to 1024 bytes."""
    blocks = max(1, -(-len(data) // BLOCK))
    padded = bytes(data) + bytes(blocks * BLOCK - len(data))
    words = np.frombuffer(padded, "<u4").reshape(blocks, 16, 1)
    counter = np.array([number], np.uint64)
    cv = _start(1)
    for i in range(blocks):
        last = i == blocks - 1
        flags = (CHUNK_START if i == 0 else 0) | (CHUNK_END | root if last else 0)
        length = len(data) - i * BLOCK if last else BLOCK
        cv = compress(cv, words[i], counter, length, flags)
    return cv


def blake3(data):
    """The 32 bytes of BLAKE3 of `data` (bytes or a view of them)."""
    view = memoryview(data)
    count = max(1, -(-len(view) // CHUNK))
    if count == 1:
        return _last_chunk(view, 0, ROOT).T.astype("<u4").tobytes()
    level = []
    for first in range(0, count - 1, BATCH):
        last = min(first + BATCH, count - 1)
        level.append(_whole_chunks(view[first * CHUNK:last * CHUNK], first))
    level.append(_last_chunk(view[(count - 1) * CHUNK:], count - 1, 0))
    level = np.concatenate(level, axis=1)
    # The left side of a parent is the largest power of two of chunks, which is what pairing neighbours gives.
    while level.shape[1] > 1:
        pairs = level.shape[1] // 2
        block = np.concatenate([level[:, 0:2 * pairs:2], level[:, 1:2 * pairs:2]])
        flags = PARENT | (ROOT if level.shape[1] == 2 else 0)
        parents = compress(_start(pairs), block, np.zeros(pairs, np.uint64), BLOCK, flags)
        level = np.concatenate([parents, level[:, 2 * pairs:]], axis=1)
    return level.T.astype("<u4").tobytes()
