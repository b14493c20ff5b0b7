"""What leaves mean: one module for each page of format-spec/codecs/.

Each module has `decode(leaf)`. That of `raw` gives the bits of all elements as unsigned integers of their size; the
others give f32 values. All are flat, in row-major order.
"""

from ..errors import COMPATIBILITY, BenbenError, require
from . import pvq, raw, rvq, scalar, ternary, trellis

VERSION = 1
CODECS = {"raw": raw, "scalar": scalar, "trellis": trellis, "pvq": pvq, "rvq": rvq, "ternary": ternary}


def decode(leaf):
    """The elements of a leaf; an unknown codec or version is Compatibility."""
    name, version = leaf.node.name, leaf.node.version
    if name not in CODECS or version != VERSION:
        raise BenbenError(COMPATIBILITY, f"codec {name!r} in version {version} is not known")
    require(name == "raw" or leaf.dtype == "f32", f"a leaf of codec {name!r} and dtype {leaf.dtype!r}")
    return CODECS[name].decode(leaf)
