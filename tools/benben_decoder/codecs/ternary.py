"""Codec `ternary`, version 1: zero, or the positive or negative level of a run. format-spec/codecs/ternary.md."""

import heapq
from functools import lru_cache

import numpy as np

from ..errors import require
from ..tables import Model

MAX_SIDE = 1 << 14
MAX_RUN = 1 << 62
MAX_DIGITS = 14
COSTS = (100, 2338, 2338)
# Bytes of trits that one turn of the dictionary writes at most.
PART = 1 << 20


def decode(leaf):
    """f32 values of the elements."""
    coder = leaf.params(["coder"], closed=True)["coder"]
    require(coder in ("symbols", "dictionary"), f"the coder {coder!r} is not known")
    n = leaf.elements
    side = leaf.side(MAX_SIDE)
    unit = side.f32()
    require(unit > 0, f"a unit of {unit}")
    level_run = side.varint(1, MAX_RUN)
    run = side.varint(1, MAX_RUN)
    level_tables = side.tables(1)
    trit_tables = side.tables()
    side.end()
    codes = leaf.symbols(1, 2 * -(-n // level_run), Model(level_tables)).astype(np.int64)
    if coder == "symbols":
        several = len(trit_tables) > 1
        bands = leaf.symbols(2, -(-n // run) if several else 0)
        trits = leaf.symbols(3, n, Model(trit_tables, run, bands) if several else Model(trit_tables))
    else:
        require(not trit_tables, "tables of trits beside a dictionary")
        trits = _by_dictionary(leaf, n, run)
    require(not (trits > 2).any(), "a trit of more than 2")
    with np.errstate(over="ignore"):
        levels = unit * ((16 + codes % 16) << codes // 16).astype(np.float32)
    levels[codes == 0] = 0
    pairs = np.zeros((len(codes) // 2, 3), np.float32)
    pairs[:, 1], pairs[:, 2] = levels[0::2], -levels[1::2]
    out = np.empty(n, np.float32)
    for start in range(0, n, PART):
        end = min(start + PART, n)
        out[start:end] = pairs[np.arange(start, end) // level_run, trits[start:end]]
    return out


@lru_cache(maxsize=1)
def dictionary():
    """Trits of each codeword, u8 of shape (65536, 28), and their number."""
    def offer(digits, cost, digit):
        # Digits of strings of one length compare as numbers in base 9.
        return cost + COSTS[digit // 3] + COSTS[digit % 3], len(digits) + 1, digits + bytes([digit])

    offers = [offer(b"", 0, digit) for digit in range(9)]
    heapq.heapify(offers)
    strings = np.zeros((1 << 16, 2 * MAX_DIGITS), np.uint8)
    lengths = np.zeros(1 << 16, np.int64)
    for codeword in range(1 << 16):
        cost, count, digits = heapq.heappop(offers)
        lengths[codeword] = 2 * count
        strings[codeword, :2 * count] = [trit for digit in digits for trit in divmod(digit, 3)]
        if count < MAX_DIGITS:
            for digit in range(9):
                heapq.heappush(offers, offer(digits, cost, digit))
    return strings, lengths


def fingerprint():
    """FNV-1a of the dictionary, as the page gives it."""
    strings, lengths = dictionary()
    entries = (strings.astype(np.uint64) << (2 * np.arange(28, dtype=np.uint64))).sum(axis=1, dtype=np.uint64)
    entries |= (lengths // 2).astype(np.uint64) << np.uint64(56)
    value = 0xCBF29CE484222325
    for byte in entries.astype("<u8").tobytes():
        value = (value ^ byte) * 0x100000001B3 & (1 << 64) - 1
    return value


def _by_dictionary(leaf, n, run):
    blocks = -(-n // run)
    starts = leaf.words(4, max(0, blocks - 1))
    codewords = leaf.records(5, 2).reshape(-1).view("<u2")
    bounds = np.concatenate([np.zeros(1, np.uint64), starts, np.array([len(codewords)], np.uint64)])
    require(bool((bounds[1:] >= bounds[:-1]).all()), "blocks that begin past the next or past the codewords")
    require(n > 0 or len(codewords) == 0, "codewords of no elements")
    if n == 0:
        return np.zeros(0, np.uint8)
    bounds = bounds.astype(np.int64)
    strings, lengths = dictionary()
    ends = np.concatenate([[0], np.cumsum(lengths[codewords])])
    filled = ends[bounds[1:]] - ends[bounds[:-1]]
    sizes = np.full(blocks, min(run, n), np.int64)
    sizes[-1] = n - (blocks - 1) * run
    require(np.array_equal(filled, sizes + sizes % 2), "codewords that do not fill their block")
    parts = []
    for start in range(0, len(codewords), PART // 28):
        part = codewords[start:start + PART // 28]
        parts.append(strings[part][np.arange(28) < lengths[part, None]])
    trits = np.concatenate(parts)
    # A block of an odd number of trits has one more, a 0.
    block_ends = np.cumsum(sizes + sizes % 2)
    surplus = block_ends[sizes % 2 == 1] - 1
    require(not trits[surplus].any(), "a trit after the end of its block")
    return np.delete(trits, surplus)
