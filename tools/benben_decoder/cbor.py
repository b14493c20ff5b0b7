"""CBOR (RFC 8949), as much as the directory needs: format-spec/container.md, section 6.

Every well-formed encoding is read. Beyond that: a key must not occur twice in a map, and items and nesting are
bounded. Integers give int, byte strings bytes, text str, arrays list, maps dict, floats float, and simple values
True, False and None; tags and other simple values give `Other`, which is of no type that a known key may have.
"""

import struct

from .errors import CORRUPTION, LIMIT, BenbenError, require

MAX_ITEMS = 1 << 24
# Sixteen nested nodes take about forty levels; more than this is reported as Corruption, as the page allows.
MAX_DEPTH = 128


class Other:
    """A tag or a simple value without a meaning here."""

    def __init__(self, number, value=None):
        self.number = number
        self.value = value


class _Reader:
    def __init__(self, data):
        self.data = data
        self.pos = 0
        self.items = 0

    def take(self, count):
        require(count <= len(self.data) - self.pos, "the directory ends early")
        part = self.data[self.pos:self.pos + count]
        self.pos += count
        return part

    def head(self):
        """Major type, argument (None for an indefinite length) and additional information of the next item."""
        byte = self.take(1)[0]
        major, info = byte >> 5, byte & 31
        if info < 24:
            return major, info, info
        if info < 28:
            return major, int.from_bytes(self.take(1 << (info - 24)), "big"), info
        require(info == 31, "a reserved form of CBOR")
        return major, None, info

    def value(self, depth):
        self.items += 1
        if self.items > MAX_ITEMS:
            raise BenbenError(LIMIT, f"the directory has more than {MAX_ITEMS} data items")
        require(depth <= MAX_DEPTH, f"the directory is nested more than {MAX_DEPTH} deep")
        major, argument, info = self.head()
        if major == 0:
            require(argument is not None, "an integer of indefinite length")
            return argument
        if major == 1:
            require(argument is not None, "an integer of indefinite length")
            return -1 - argument
        if major in (2, 3):
            return self.string(major, argument)
        if major == 4:
            return self.array(argument, depth)
        if major == 5:
            return self.map(argument, depth)
        if major == 6:
            require(argument is not None, "a tag of indefinite length")
            return Other(argument, self.value(depth + 1))
        return self.simple(argument, info)

    def simple(self, argument, info):
        if info == 25:
            return struct.unpack(">e", argument.to_bytes(2, "big"))[0]
        if info == 26:
            return struct.unpack(">f", argument.to_bytes(4, "big"))[0]
        if info == 27:
            return struct.unpack(">d", argument.to_bytes(8, "big"))[0]
        require(argument is not None, "a break without an indefinite length")
        require(info < 24 or argument >= 32, "a simple value in two bytes that takes one")
        return {20: False, 21: True, 22: None}.get(argument, Other(argument))

    def string(self, major, argument):
        if argument is not None:
            raw = bytes(self.take(argument))
            return self.text(raw) if major == 3 else raw
        parts = []
        while not self.at_break():
            self.items += 1
            inner, length, _ = self.head()
            require(inner == major and length is not None, "a string of strings of another kind")
            raw = bytes(self.take(length))
            parts.append(self.text(raw) if major == 3 else raw)
        return ("" if major == 3 else b"").join(parts)

    @staticmethod
    def text(raw):
        try:
            return raw.decode("utf-8")
        except UnicodeDecodeError as error:
            raise BenbenError(CORRUPTION, f"text that is not UTF-8: {error}") from error

    def at_break(self):
        require(self.pos < len(self.data), "the directory ends early")
        if self.data[self.pos] == 0xFF:
            self.pos += 1
            return True
        return False

    def count(self, argument):
        """Yields once for each element of an array or map of definite or indefinite length."""
        if argument is None:
            while not self.at_break():
                yield
        else:
            require(argument <= len(self.data) - self.pos, "the directory ends early")
            for _ in range(argument):
                yield

    def array(self, argument, depth):
        return [self.value(depth + 1) for _ in self.count(argument)]

    def map(self, argument, depth):
        out = {}
        for _ in self.count(argument):
            key = self.value(depth + 1)
            if not isinstance(key, str):
                # Not a key that anything asks for; told apart from text, and from each other by type and value.
                key = (type(key).__name__, repr(key))
            require(key not in out, f"the key {key!r} occurs twice in a map")
            out[key] = self.value(depth + 1)
        return out


def decode(data):
    """The one item that `data` holds."""
    reader = _Reader(memoryview(data))
    value = reader.value(1)
    require(reader.pos == len(data), f"{len(data) - reader.pos} bytes follow the directory's CBOR")
    return value
