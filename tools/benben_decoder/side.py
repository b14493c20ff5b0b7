"""Side information, stream 0 of leaves: format-spec/entropy.md, section 6."""

import numpy as np

from . import tables
from .errors import require


class Bits:
    """Packed fields in bytes from `pos` on, the least significant bit first."""

    def __init__(self, fields):
        self.fields = fields
        self.held = 0
        self.count = 0

    def take(self, width):
        """A field of `width` bits."""
        while self.count < width:
            self.held |= self.fields.u8() << self.count
            self.count += 8
        value = self.held & (1 << width) - 1
        self.held >>= width
        self.count -= width
        return value

    def ones(self, most):
        """One-bits up to the next zero-bit, which is taken too, or up to `most` of them."""
        for count in range(most):
            if not self.take(1):
                return count
        return most

    def finish(self):
        """Ends the fields: what is left of the last byte must be zero."""
        require(self.held == 0, "bits after the last field")


class Fields:
    """Side information, field after field."""

    def __init__(self, data):
        self.data = bytes(data)
        self.pos = 0

    def bytes(self, count):
        """`count` bytes."""
        require(count <= len(self.data) - self.pos, "side information ends early")
        self.pos += count
        return self.data[self.pos - count:self.pos]

    def u8(self):
        """One byte."""
        return self.bytes(1)[0]

    def i8(self):
        """One byte, two's complement."""
        value = self.u8()
        return value - 256 if value > 127 else value

    def varint(self, low=0, high=(1 << 64) - 1):
        """LEB128, from `low` to `high`."""
        value, shift = 0, 0
        while True:
            byte = self.u8()
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                break
            require(shift < 70, "a varint of more than ten bytes")
        require(shift == 7 or byte != 0, "a varint with a needless byte")
        require(value < 1 << 64, "a varint of more than 64 bits")
        require(low <= value <= high, f"a number of side information is {value}, not {low} to {high}")
        return value

    def f32(self):
        """A finite f32."""
        value = np.frombuffer(self.bytes(4), "<f4")[0]
        require(bool(np.isfinite(value)), "a number of side information that is not finite")
        return value

    def bits(self):
        """Packed fields from the next byte on."""
        return Bits(self)

    def tables(self, most=tables.MAX_TABLES):
        """A list of at most `most` tables."""
        found = tables.read_list(self)
        require(len(found) <= most, f"a list of {len(found)} tables, at most {most} are allowed")
        return found

    def end(self):
        """Ends the fields: all bytes must have been used."""
        require(self.pos == len(self.data), f"{len(self.data) - self.pos} bytes left in the side information")
