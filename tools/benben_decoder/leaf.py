"""What codecs see of a leaf: its parameters, and its streams with their kinds and numbers of items checked.
format-spec/container.md, section 6, and the "Streams" and "Checks" of each page of format-spec/codecs/."""

import math

import numpy as np

from . import entropy
from .errors import LIMIT, BenbenError, require
from .node import BYTES, SYMBOLS, WORDS, is_uint
from .side import Fields
from .tables import Model

# Bytes of any value and of any stream: 16 GiB, as container.md, section 9, has it for values.
MAX_BYTES = 16 << 30
NO_TABLES = Model()


class Leaf:
    """A leaf of a pack, ready to be read."""

    def __init__(self, pack, node):
        self.pack = pack
        self.node = node
        self.shape = node.shape
        self.dtype = node.dtype
        self.elements = math.prod(node.shape)

    def params(self, keys, closed=False):
        """The parameters as a map that has all of `keys`, and no other where it is `closed`."""
        params = self.node.params
        require(isinstance(params, dict), "params are no map")
        for key in keys:
            require(key in params, f"the parameter {key!r} is missing")
        require(not closed or len(params) == len(keys), "a parameter that is not known")
        return params

    def uint(self, key, bits, low=0, high=None):
        """A parameter that is an unsigned integer of `bits` bits, from `low` to `high`."""
        value = self.node.params[key]
        require(is_uint(value, bits) and value >= low and (high is None or value <= high),
                f"the parameter {key!r} is {value!r}")
        return value

    def flag(self, key):
        """A parameter that is a bool."""
        value = self.node.params[key]
        require(isinstance(value, bool), f"the parameter {key!r} is {value!r}")
        return value

    def step(self, key, most=None):
        """A parameter that is a float: as f32 it must be finite, above 0, and at most `most`."""
        value = self.node.params[key]
        require(isinstance(value, float), f"the parameter {key!r} is no float")
        with np.errstate(over="ignore"):
            value = np.float32(value)
        require(bool(np.isfinite(value)) and value > 0 and (most is None or value <= most),
                f"the parameter {key!r} is {value}")
        return value

    def stream(self, number, kind, items=None, most=None):
        """A stream of this kind, with exactly `items` items or at most `most`."""
        require(number < len(self.node.streams), f"stream {number} is not there")
        stream = self.node.streams[number]
        require(stream.kind == kind, f"stream {number} is of kind {stream.kind}, not {kind}")
        require(items is None or stream.items == items, f"stream {number} has {stream.items} items, not {items}")
        require(most is None or stream.items <= most, f"stream {number} has {stream.items} items, at most {most}")
        if stream.items * (8 if kind == WORDS else max(1, kind - BYTES)) > MAX_BYTES:
            raise BenbenError(LIMIT, f"stream {number} has {stream.items} items")
        return stream

    def side(self, most):
        """Side information: stream 0, of at most `most` bytes."""
        return Fields(self.records(0, 1, most=most).tobytes())

    def symbols(self, number, items, model=NO_TABLES):
        """All symbols of a stream of `items` symbols, u8."""
        return entropy.read_symbols(self.pack, self.node, self.stream(number, SYMBOLS, items), model)

    def words(self, number, items=None, most=None):
        """All words of a stream, u64."""
        return entropy.read_words(self.pack, self.node, self.stream(number, WORDS, items, most))

    def records(self, number, width, items=None, most=None):
        """All items of a stream of bytes, u8 of shape (items, width)."""
        return entropy.read_records(self.pack, self.node, self.stream(number, BYTES + width, items, most))

    def rows_and_columns(self):
        """Rows and columns as codecs scalar and trellis see them: a list is one row."""
        if len(self.shape) < 2:
            return 1, self.elements
        return self.shape[0], math.prod(self.shape[1:])
