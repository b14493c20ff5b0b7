"""Nodes of expressions as the directory holds them: format-spec/container.md, section 6, and the forms of
format-spec/expression.md, section 3, which are checked when a pack is opened."""

from . import dtypes
from .errors import COMPATIBILITY, LIMIT, BenbenError, require

MAX_NODES = 256
MAX_NESTING = 16
MAX_CHUNK_ITEMS = 1 << 20
SYMBOLS, WORDS, BYTES = 0, 1, 16
INNER = ("sum", "product", "ref", "sparse", "scale", "permute", "transpose", "rotate")


def is_uint(value, bits):
    """Whether a CBOR value is an unsigned integer of `bits` bits."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << bits


def string(value, key, place):
    """The text under `key` of a map."""
    require(isinstance(value.get(key), str), f"{place}: {key} is no text")
    return value[key]


class Stream:
    """Kind, items and items of a chunk; `first` is its first chunk within the leaf."""

    def __init__(self, value, first):
        require(isinstance(value, list) and len(value) == 3 and all(is_uint(v, 64) for v in value), "no stream")
        self.kind, self.items, self.chunk_items = value
        require(self.kind < 1 << 8, f"stream kind {self.kind} is no u8")
        if self.kind not in (SYMBOLS, WORDS) and not BYTES < self.kind <= BYTES + 8:
            raise BenbenError(COMPATIBILITY, f"stream kind {self.kind} is not known")
        require(1 <= self.chunk_items <= MAX_CHUNK_ITEMS, f"chunks of {self.chunk_items} items")
        self.first = first
        self.chunks = -(-self.items // self.chunk_items)


class Node:
    """One place of an expression. `is_leaf` where it has coded values; `known` where an inner node is of version 1."""

    def __init__(self, value):
        # The tree is built without recursion: its depth is checked by check_tree, and here it is not known yet.
        work = [(self, value)]
        while work:
            node, value = work.pop()
            operands = node._read(value)
            node.of = [Node.__new__(Node) for _ in operands]
            work.extend(zip(node.of, operands))

    def _read(self, value):
        require(isinstance(value, dict), "a node that is no map")
        self.name = string(value, "node", "a node")
        self.version = value.get("version", 1)
        require(is_uint(self.version, 16), f"node {self.name!r}: version {self.version!r}")
        self.ancillary = value.get("ancillary", False)
        require(isinstance(self.ancillary, bool), f"node {self.name!r}: ancillary is no bool")
        self.params = value.get("params")
        self.is_leaf = "segment" in value
        self.known = not self.is_leaf and self.name in INNER and self.version == 1
        self.is_ref = self.known and self.name == "ref"
        # A type is checked wherever the key stands, its meaning only where the node has one.
        dtype, shape = value.get("dtype", ""), value.get("shape", [])
        require(isinstance(dtype, str), f"node {self.name!r}: dtype is no text")
        require(isinstance(shape, list) and all(is_uint(d, 64) for d in shape), f"node {self.name!r}: shape")
        self.dtype = self.shape = None
        if self.is_leaf or self.is_ref:
            require("dtype" in value, f"node {self.name!r}: no dtype")
            self.dtype = dtypes.known(dtype)
        if self.is_leaf or self.is_ref or self.known and self.name == "sparse":
            require("shape" in value, f"node {self.name!r}: no shape")
            self.shape = tuple(shape)
        if self.is_leaf:
            self._read_leaf(value)
            return []
        require("chunk" not in value and "streams" not in value, f"node {self.name!r} has chunks and is no leaf")
        operands = value.get("of", [])
        require(isinstance(operands, list), f"node {self.name!r}: operands are no array")
        if self.known:
            self._check_form(len(operands))
        return operands

    def _read_leaf(self, value):
        require("of" not in value, f"leaf {self.name!r} has operands")
        self.segment, self.chunk = value["segment"], value.get("chunk")
        require(is_uint(self.segment, 32) and is_uint(self.chunk, 64), f"leaf {self.name!r}: segment or chunk")
        streams = value.get("streams", [])
        require(isinstance(streams, list), f"leaf {self.name!r}: streams are no array")
        self.streams, first = [], 0
        for stream in streams:
            self.streams.append(Stream(stream, first))
            first += self.streams[-1].chunks

    def _check_form(self, operands):
        """Number of operands and form of the parameters of a known inner node."""
        params = self.params
        if self.name in ("sum", "product"):
            good = params is None and operands >= 1
        elif self.name == "transpose":
            good = params is None and operands == 1
        elif not isinstance(params, dict):
            good = False
        elif self.name == "ref":
            good = isinstance(params.get("tensor"), str) and operands == 0
        elif self.name == "sparse":
            group = params.get("group")
            good = isinstance(group, list) and len(group) == 2 and all(is_uint(g, 32) for g in group) and operands == 2
        elif self.name == "scale":
            sides = params.get("rows"), params.get("columns")
            good = all(isinstance(side, bool) for side in sides) and operands == 1 + sum(sides)
        elif self.name == "permute":
            good = is_uint(params.get("axis"), 8) and operands == 2
        else:
            good = is_uint(params.get("seed"), 64) and is_uint(params.get("block"), 32) and operands == 1
        require(good, f"node {self.name!r}: {operands} operands, params {params!r}")

    def walk(self):
        """This node and all below it."""
        work = [self]
        while work:
            node = work.pop()
            yield node
            work.extend(reversed(node.of))


def check_tree(root):
    """Bounds on nodes and nesting, of kind Limit."""
    count, level, depth = 0, [root], 0
    while level:
        depth += 1
        count += len(level)
        level = [inner for node in level for inner in node.of]
    if count > MAX_NODES:
        raise BenbenError(LIMIT, f"an expression of {count} nodes")
    if depth > MAX_NESTING:
        raise BenbenError(LIMIT, f"an expression nested {depth} deep")
