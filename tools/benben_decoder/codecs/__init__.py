"""What leaves mean: one module for each page of format-spec/codecs/.

Each module has `decode(leaf)`. That of `raw` gives the bits of all elements as unsigned integers of their size; the
others give f32 values. All are flat, in row-major order.
"""

from ..errors import COMPATIBILITY, BenbenError, require
from . import pvq, raw, rvq, scalar, ternary, trellis

VERSION = 1
CODECS = {"raw": raw, "scalar": scalar, "trellis": trellis, "pvq": pvq, "rvq": rvq, "ternary": ternary}


def check_known(node):
    """Refuses a leaf of an unknown codec or version as Compatibility, and one of a dtype that its codec lacks."""
    if node.name not in CODECS or node.version != VERSION:
        raise BenbenError(COMPATIBILITY, f"codec {node.name!r} in version {node.version} is not known")
    require(node.name == "raw" or node.dtype == "f32", f"a leaf of codec {node.name!r} and dtype {node.dtype!r}")


def decode(leaf):
    """The elements of a leaf."""
    check_known(leaf.node)
    return CODECS[leaf.node.name].decode(leaf)
