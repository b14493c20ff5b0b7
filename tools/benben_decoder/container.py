"""Header, trailer and opening of a pack: format-spec/container.md, sections 3, 7, 8 and 9."""

import struct

from . import directory
from .blake3 import blake3
from .crc32c import crc32c
from .errors import (COMPATIBILITY, CORRUPTION, INSUFFICIENT_DATA, INVALID_ARGUMENT, IO, LIMIT, BenbenError,
                     require)

MAGIC = b"\x89BNB\r\n\x1a\n"
END_MAGIC = b"\n\x1aBNBEND"
HEADER = 64
TRAILER = 64
MAX_INDEX = 256 << 20


class Header:
    """The first 64 bytes, checked in the order that section 3 gives."""

    def __init__(self, data):
        start = bytes(data[:8])
        if len(start) < 8 and start == MAGIC[:len(start)]:
            raise BenbenError(INSUFFICIENT_DATA, f"a pack begins with 64 bytes, there are {len(data)}")
        if start != MAGIC:
            flipped = sum((a ^ b).bit_count() for a, b in zip(start, MAGIC))
            if start[1:4] == b"BNB" or len(start) == 8 and flipped <= 4:
                raise BenbenError(CORRUPTION, "the magic of a pack is damaged")
            raise BenbenError(INVALID_ARGUMENT, "this is no pack")
        if len(data) < HEADER:
            raise BenbenError(INSUFFICIENT_DATA, f"a pack begins with 64 bytes, there are {len(data)}")
        (self.major, self.minor, size, _ancillary, critical, self.segments_offset, self.front_index_len, self.file_len,
         self.front_index_crc, _reserved, crc) = struct.unpack("<HHIIIQQQIQI", data[8:HEADER])
        require(crc32c(data[:60]) == crc, "the header's CRC32C does not fit")
        if self.major != 1:
            raise BenbenError(COMPATIBILITY, f"container version {self.major}, this reader knows 1")
        if critical:
            raise BenbenError(COMPATIBILITY, f"critical features {critical:#x} are not known")
        require(size == HEADER, f"a header of {size} bytes")
        require(self.segments_offset % 256 == 0 and self.segments_offset >= HEADER,
                f"segments_offset {self.segments_offset}")
        require(self.front_index_len <= self.segments_offset - HEADER, "the copy of the index reaches into the segments")


class Pack:
    """A pack that has been opened: its header, its root and its directory. Nothing is decoded yet."""

    def __init__(self, data):
        self.data = data = memoryview(data)
        self.header = header = Header(data[:HEADER])
        size = len(data)
        if header.file_len > size:
            raise BenbenError(INSUFFICIENT_DATA, f"cut short: {header.file_len - size} of {header.file_len} bytes "
                              "are missing")
        require(header.file_len in (0, size), "bytes follow the end of the pack")
        if size - HEADER < TRAILER:
            raise BenbenError(INSUFFICIENT_DATA, "no room for a trailer")
        trailer = data[size - TRAILER:]
        self.index_offset, index_len, self.root, file_len, end = struct.unpack("<QQ32sQ8s", trailer)
        if end != END_MAGIC:
            raise BenbenError(INSUFFICIENT_DATA, "the end of the pack is missing or damaged")
        require(file_len == size, f"the trailer says {file_len} bytes, there are {size}")
        require(self.index_offset + index_len + TRAILER == size, "the index does not end at the trailer")
        if index_len > MAX_INDEX:
            raise BenbenError(LIMIT, f"an index of {index_len} bytes")
        require(self.index_offset >= header.segments_offset, "the index begins before the segments")
        self.index = data[self.index_offset:size - TRAILER]
        require(blake3(self.index) == self.root, "the BLAKE3 of the index is not the root")
        self.directory = directory.Directory(self.index, self.index_offset - header.segments_offset)

    @classmethod
    def open(cls, path):
        """The pack at `path`."""
        try:
            with open(path, "rb") as file:
                return cls(file.read())
        except OSError as error:
            raise BenbenError(IO, str(error)) from error

    def segment(self, number):
        """The bytes of a segment."""
        start = self.header.segments_offset + int(self.directory.segments["offset"][number])
        return self.data[start:start + int(self.directory.segments["len"][number])]

    def chunk(self, leaf, number):
        """Mode and payload of entry `number` of a leaf's entries, its CRC32C checked."""
        entry = leaf.chunk + number
        mode, length, crc = (int(self.directory.chunks[name][entry]) for name in ("mode", "len", "crc"))
        start = int(self.directory.chunk_offsets[entry])
        payload = self.segment(leaf.segment)[start:start + length]
        require(crc32c(payload) == crc, f"the CRC32C of chunk {entry} does not fit")
        return mode, payload

    def verify(self):
        """The checks of section 9 that opening and reading leave out: hashes of segments, the copy, the gaps."""
        end = HEADER + self.header.front_index_len
        if self.header.front_index_len:
            copy = self.data[HEADER:end]
            require(crc32c(copy) == self.header.front_index_crc, "the CRC32C of the copy of the index does not fit")
            require(blake3(copy) == self.root, "the copy of the index is not the index")
        for number, entry in enumerate(self.directory.segments):
            start = self.header.segments_offset + int(entry["offset"])
            require(not any(self.data[end:start]), f"bytes before segment {number} are not zero")
            segment = self.segment(number)
            require(blake3(segment) == entry["hash"].tobytes(), f"the BLAKE3 of segment {number} does not fit")
            end = start + len(segment)
        require(not any(self.data[end:self.index_offset]), "bytes before the index are not zero")
