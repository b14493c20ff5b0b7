"""Chunks of streams: packed fields and the five modes. format-spec/entropy.md, sections 1 to 3."""

import numpy as np

from . import rans, zstd
from .errors import COMPATIBILITY, BenbenError, corruption, require
from .node import BYTES, SYMBOLS, WORDS

RAW, CONST, PACKED, ZSTD, RANS = range(5)
# Chunks of one stream that rANS decodes side by side: enough that numpy's cost of a step is small beside its work.
SIDE_BY_SIDE = 64


def unpack(data, count, width):
    """`count` packed fields of `width` bits, as u64; what is left of the last byte must be zero."""
    require(len(data) == -(-count * width // 8), f"{len(data)} bytes for {count} fields of {width} bits")
    bits = np.unpackbits(np.frombuffer(data, np.uint8), bitorder="little")
    require(not bits[count * width:].any(), "bits after the last field")
    fields = bits[:count * width].reshape(count, width)
    if width <= 8:
        return (fields << np.arange(width, dtype=np.uint8)).sum(axis=1, dtype=np.uint64)
    padded = np.zeros((count, 64), np.uint8)
    padded[:, :width] = fields
    return np.packbits(padded, axis=1, bitorder="little").view("<u8").reshape(count).astype(np.uint64)


def _not_allowed(mode):
    if mode > RANS:
        raise BenbenError(COMPATIBILITY, f"chunk mode {mode} is not known")
    raise corruption(f"chunk mode {mode} in a stream that does not have it")


def _symbols(mode, payload, count):
    if mode == RAW:
        require(len(payload) == count, f"{len(payload)} bytes for {count} symbols")
        return np.frombuffer(payload, np.uint8)
    if mode == CONST:
        require(len(payload) == 1, f"a constant symbol of {len(payload)} bytes")
        return np.full(count, payload[0], np.uint8)
    require(len(payload) >= 1, "an empty payload")
    if mode == PACKED:
        require(1 <= payload[0] <= 8, f"symbols of {payload[0]} bits")
        return unpack(payload[1:], count, payload[0]).astype(np.uint8)
    per_byte = payload[0]
    require(per_byte in (1, 2, 4, 8), f"{per_byte} symbols to a byte")
    plain = zstd.decode(payload[1:], -(-count // per_byte))
    return unpack(plain, count, 8 // per_byte).astype(np.uint8)


def _words(mode, payload, count):
    if mode == CONST:
        require(len(payload) <= 8 and (not len(payload) or payload[-1]), "a constant word that is too long")
        return np.full(count, int.from_bytes(payload, "little"), np.uint64)
    if mode == PACKED:
        require(len(payload) >= 1 and 1 <= payload[0] <= 64, "words of no known number of bits")
        return unpack(payload[1:], count, payload[0])
    return _not_allowed(mode)


def _records(mode, payload, count, width):
    if mode == CONST:
        require(len(payload) == width, f"a constant of {len(payload)} bytes")
        return np.tile(np.frombuffer(payload, np.uint8), (count, 1))
    if mode == ZSTD:
        payload = zstd.decode(payload, count * width)
    elif mode != RAW:
        _not_allowed(mode)
    require(len(payload) == count * width, f"{len(payload)} bytes for {count} items of {width}")
    return np.frombuffer(payload, np.uint8).reshape(count, width)


def _lengths(stream):
    """First item and number of items of each chunk."""
    for number in range(stream.chunks):
        start = number * stream.chunk_items
        yield number, start, min(stream.chunk_items, stream.items - start)


def read_words(pack, leaf, stream):
    """All words of a stream, u64."""
    require(stream.kind == WORDS, "a stream that is no stream of words")
    out = np.empty(stream.items, np.uint64)
    for number, start, count in _lengths(stream):
        mode, payload = pack.chunk(leaf, stream.first + number)
        out[start:start + count] = _words(mode, payload, count)
    return out


def read_records(pack, leaf, stream):
    """All records of a stream of bytes, u8 of shape (items, width)."""
    width = stream.kind - BYTES
    out = np.empty((stream.items, width), np.uint8)
    for number, start, count in _lengths(stream):
        mode, payload = pack.chunk(leaf, stream.first + number)
        out[start:start + count] = _records(mode, payload, count, width)
    return out


def read_symbols(pack, leaf, stream, model):
    """All symbols of a stream, u8."""
    require(stream.kind == SYMBOLS, "a stream that is no stream of symbols")
    out = np.empty(stream.items, np.uint8)
    waiting = []
    for number, start, count in _lengths(stream):
        mode, payload = pack.chunk(leaf, stream.first + number)
        if mode == RANS:
            if waiting and (waiting[0][1] != count or len(waiting) == SIDE_BY_SIDE):
                _decode_waiting(out, waiting, model)
                waiting = []
            waiting.append((start, count, payload))
        elif mode in (RAW, CONST, PACKED, ZSTD):
            out[start:start + count] = _symbols(mode, payload, count)
        else:
            _not_allowed(mode)
    if waiting:
        _decode_waiting(out, waiting, model)
    return out


def _decode_waiting(out, waiting, model):
    count = waiting[0][1]
    rows = [model.rows(start, count) for start, _, _ in waiting]
    if all(np.isscalar(row) and row == 0 for row in rows):
        rows = 0
    else:
        rows = np.stack([np.broadcast_to(row, count) for row in rows])
    decoded = rans.decode([payload for _, _, payload in waiting], count, model.lookup(), rows, model.trellis)
    for (start, _, _), symbols in zip(waiting, decoded):
        out[start:start + count] = symbols
