"""CRC32C (Castagnoli, reflected), as format-spec/container.md, section 1, defines it.

A CRC without its exclusive-ors is linear, so rows of 256 bytes are taken through their bytes side by side, and
neighbours are then joined: crc(a b) = crc(a) moved over the length of b, exclusive-or crc(b).
"""

from functools import lru_cache

import numpy as np

POLYNOMIAL = 0x82F63B78
ROW = 256


def _byte_table():
    table = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = (table >> np.uint32(1)) ^ (np.uint32(POLYNOMIAL) * (table & np.uint32(1)))
    return table


TABLE = _byte_table()
PLAIN_TABLE = TABLE.tolist()


def _apply(tables, crc):
    """A linear map, given as four tables of the four bytes of its argument, of each element of `crc`."""
    return (tables[0][crc & np.uint32(255)] ^ tables[1][(crc >> np.uint32(8)) & np.uint32(255)]
            ^ tables[2][(crc >> np.uint32(16)) & np.uint32(255)] ^ tables[3][crc >> np.uint32(24)])


@lru_cache(maxsize=None)
def _shift(level):
    """The map of a CRC over ROW * 2^level zero bytes."""
    values = np.stack([np.arange(256, dtype=np.uint32) << np.uint32(8 * i) for i in range(4)])
    if level == 0:
        for _ in range(ROW):
            values = (values >> np.uint32(8)) ^ TABLE[values & np.uint32(255)]
        return values
    half = _shift(level - 1)
    return _apply(half, half)


def crc32c(data):
    """CRC32C of `data`, an integer of 32 bits."""
    if len(data) < ROW:
        crc = 0xFFFFFFFF
        for byte in bytes(data):
            crc = (crc >> 8) ^ PLAIN_TABLE[(crc ^ byte) & 255]
        return crc ^ 0xFFFFFFFF
    # Zeros in front change nothing once the initial value has gone into the first four bytes.
    rows = -(-len(data) // ROW)
    padded = np.zeros(rows * ROW, np.uint8)
    start = len(padded) - len(data)
    padded[start:] = np.frombuffer(data, np.uint8)
    padded[start:start + 4] ^= np.uint8(255)
    columns = np.ascontiguousarray(padded.reshape(rows, ROW).T).astype(np.uint32)
    crc = np.zeros(rows, np.uint32)
    for column in columns:
        crc = (crc >> np.uint32(8)) ^ TABLE[(crc ^ column) & np.uint32(255)]
    level = 0
    while len(crc) > 1:
        if len(crc) % 2:
            crc = np.concatenate([np.zeros(1, np.uint32), crc])
        crc = _apply(_shift(level), crc[0::2]) ^ crc[1::2]
        level += 1
    return int(crc[0]) ^ 0xFFFFFFFF
