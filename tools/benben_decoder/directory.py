"""The index: directory, segment table, chunk table, and every check that opening makes of them.
format-spec/container.md, sections 4 to 6 and 9."""

import struct

import numpy as np

from . import cbor, dtypes, zstd
from .errors import COMPATIBILITY, LIMIT, BenbenError, corruption, require
from .node import Node, check_tree, string

MAX_DIRECTORY = 256 << 20
MAX_ENTRIES = 1 << 20
MAX_NAME = 65536
SEGMENT = np.dtype([("offset", "<u8"), ("len", "<u8"), ("hash", "u1", 32)])
CHUNK = np.dtype([("offset", "u1", 6), ("mode", "u1"), ("reserved", "u1"), ("len", "<u4"), ("crc", "<u4")])


class Tensor:
    """A tensor's entry in the directory."""

    def __init__(self, value):
        require(isinstance(value, dict), "a tensor that is no map")
        self.name = string(value, "name", "a tensor")
        place = f"tensor {self.name!r}"
        _check_name_length(self.name)
        self.dtype = dtypes.known(string(value, "dtype", place))
        self.shape = shape(value, "shape", place)
        origin = value.get("origin")
        require(isinstance(origin, dict), f"{place}: no origin")
        string(origin, "type", place)
        require(_is_int(origin.get("bytes"), 64), f"{place}: origin without bytes")
        require(isinstance(origin.get("relative_mse", 0.0), float), f"{place}: relative_mse is no float")
        self.origin = origin
        require("expr" in value, f"{place}: no expression")
        self.expr = Node(value["expr"])
        check_tree(self.expr)


class File:
    """A file's entry in the directory."""

    def __init__(self, value):
        require(isinstance(value, dict), "a file that is no map")
        self.name = string(value, "name", "a file")
        _check_name_length(self.name)
        parts = self.name.split("/")
        require(not any(c in self.name for c in "\\:\0") and not any(p in ("", ".", "..") for p in parts),
                f"the file {self.name!r} would leave its folder")
        require("leaf" in value, f"file {self.name!r}: no leaf")
        self.leaf = leaf = Node(value["leaf"])
        require(leaf.is_leaf and leaf.name == "raw" and leaf.dtype == "u8" and len(leaf.shape) == 1,
                f"file {self.name!r} is no raw leaf of bytes")


def _check_name_length(name):
    if not 1 <= len(name.encode()) <= MAX_NAME:
        raise BenbenError(LIMIT, f"a name of {len(name.encode())} bytes")


def _is_int(value, bits):
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << bits


def shape(value, key, place):
    """The shape under `key` of a map."""
    found = value.get(key)
    require(isinstance(found, list) and all(_is_int(d, 64) for d in found), f"{place}: {key} is no list of sizes")
    return tuple(found)


class Directory:
    """What the index says: generator, metadata, recipe, files, tensors, and the two tables."""

    def __init__(self, index, room):
        require(len(index) >= 40, f"an index of {len(index)} bytes")
        stored, plain, coding, _reserved, segments, chunks = struct.unpack("<QQIIQQ", index[:40])
        require(stored <= len(index) - 40, "the directory does not fit the index")
        if plain > MAX_DIRECTORY:
            raise BenbenError(LIMIT, f"a directory of {plain} bytes")
        if coding not in (0, 1):
            raise BenbenError(COMPATIBILITY, f"coding {coding} of the directory is not known")
        tables = -(-(40 + stored) // 8) * 8
        require(tables + 48 * segments + 16 * chunks == len(index), "the tables do not fill the index")
        raw = index[40:40 + stored]
        require(coding == 1 or stored == plain, "a plain directory of two lengths")
        top = cbor.decode(zstd.decode(raw, plain) if coding == 1 else raw)
        self.segments = np.frombuffer(index, SEGMENT, segments, tables) if segments else np.zeros(0, SEGMENT)
        self.chunks = np.frombuffer(index, CHUNK, chunks, tables + 48 * segments) if chunks else np.zeros(0, CHUNK)
        packed = self.chunks["offset"].astype(np.int64)
        self.chunk_offsets = (packed << (8 * np.arange(6))).sum(axis=1) if chunks else np.zeros(0, np.int64)
        self._check_segments(room)
        self._read_top(top)
        self._check_ownership()
        self._check_references()

    def _read_top(self, top):
        require(isinstance(top, dict), "the directory is no map")
        self.generator = string(top, "generator", "the directory")
        self.metadata = top.get("metadata", {})
        require(isinstance(self.metadata, dict) and all(isinstance(s, str) for kv in self.metadata.items() for s in kv),
                "metadata that is no map of text to text")
        self.recipe = string(top, "recipe", "the directory") if "recipe" in top else None
        files, tensors = top.get("files", []), top.get("tensors")
        require(isinstance(files, list) and isinstance(tensors, list), "files or tensors are no arrays")
        if len(files) + len(tensors) > MAX_ENTRIES:
            raise BenbenError(LIMIT, f"{len(files) + len(tensors)} tensors and files")
        self.files = _by_name(File(value) for value in files)
        self.tensors = _by_name(Tensor(value) for value in tensors)

    def _check_segments(self, room):
        end = 0
        for offset, length in zip(self.segments["offset"].tolist(), self.segments["len"].tolist()):
            require(end <= offset <= room and offset - end < 256 and length <= room - offset,
                    f"a segment at {offset} of {length} bytes, after {end} and within {room}")
            end = offset + length
        require(room - end < 256, f"{room - end} bytes between the last segment and the index")

    def leaves(self):
        """Every leaf of the pack, those under nodes that are not known included."""
        for tensor in self.tensors.values():
            yield from (node for node in tensor.expr.walk() if node.is_leaf)
        for file in self.files.values():
            yield file.leaf

    def _check_ownership(self):
        """Section 5: segments and entries of the chunk table each belong to one leaf, and fill each other."""
        owned, claims, total = set(), [], 0
        lengths = self.chunks["len"].astype(np.int64)
        for leaf in self.leaves():
            require(leaf.segment < len(self.segments), f"segment {leaf.segment} is not there")
            require(leaf.segment not in owned, f"two leaves own segment {leaf.segment}")
            owned.add(leaf.segment)
            count = sum(stream.chunks for stream in leaf.streams)
            require(leaf.chunk <= len(self.chunks) and count <= len(self.chunks) - leaf.chunk,
                    f"a leaf of {count} chunks from {leaf.chunk}, the table has {len(self.chunks)}")
            total += count
            claims.append((leaf.chunk, count))
            ends = np.cumsum(lengths[leaf.chunk:leaf.chunk + count])
            starts = np.concatenate([[0], ends[:-1]]) if count else ends
            require(np.array_equal(starts, self.chunk_offsets[leaf.chunk:leaf.chunk + count]),
                    f"chunks of segment {leaf.segment} do not follow each other")
            require(int(self.segments["len"][leaf.segment]) == (int(ends[-1]) if count else 0),
                    f"chunks of segment {leaf.segment} do not fill it")
        require(len(owned) == len(self.segments), "a segment that no leaf owns")
        require(total == len(self.chunks), f"leaves own {total} chunks, the table has {len(self.chunks)}")
        end = 0
        for start, count in sorted(claim for claim in claims if claim[1]):
            require(start >= end, "two leaves own the same chunks")
            end = start + count

    def _check_references(self):
        """Section 6, last: references name a tensor that is there, as it is, and that holds no reference."""
        for tensor in self.tensors.values():
            for node in tensor.expr.walk():
                if not node.is_ref:
                    continue
                target = self.tensors.get(node.params["tensor"])
                place = f"tensor {tensor.name!r}"
                if target is None:
                    raise corruption(f"{place}: a reference to {node.params['tensor']!r}, which is not there")
                require(node.shape == target.shape and node.dtype == target.dtype,
                        f"{place}: a reference of another shape or dtype than {target.name!r}")
                require(not any(inner.is_ref for inner in target.expr.walk()),
                        f"{place}: a reference to {target.name!r}, which holds a reference")


def _by_name(entries):
    out = {}
    for entry in entries:
        require(entry.name not in out, f"two entries of the name {entry.name!r}")
        out[entry.name] = entry
    return out
