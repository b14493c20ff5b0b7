"""What a caller asks of a pack: a tensor or a file by its name. format-spec/container.md, section 9."""

import math

from .container import Pack
from .errors import INVALID_ARGUMENT, LIMIT, BenbenError
from .expression import Evaluator
from .leaf import MAX_BYTES, Leaf
from . import codecs


class Reader:
    """A pack whose tensors and files can be read. Errors name what was read."""

    def __init__(self, pack):
        self.pack = pack
        self.directory = pack.directory
        self.evaluator = Evaluator(pack)

    @classmethod
    def open(cls, path):
        """A reader of the pack at `path`."""
        return cls(Pack.open(path))

    def tensor(self, name):
        """Bits of all elements of a tensor, in its dtype, flat; little-endian as bytes."""
        entry = self._entry(self.directory.tensors, name, "tensor")
        try:
            return self.evaluator.materialize(entry)
        except BenbenError as error:
            raise error.within(f"tensor {name!r}") from error

    def file(self, name):
        """The bytes of a file."""
        leaf = self._entry(self.directory.files, name, "file").leaf
        try:
            if math.prod(leaf.shape) > MAX_BYTES:
                raise BenbenError(LIMIT, f"{leaf.shape[0]} bytes")
            return codecs.decode(Leaf(self.pack, leaf)).tobytes()
        except BenbenError as error:
            raise error.within(f"file {name!r}") from error

    @staticmethod
    def _entry(entries, name, what):
        if name not in entries:
            raise BenbenError(INVALID_ARGUMENT, f"there is no {what} {name!r}")
        return entries[name]
