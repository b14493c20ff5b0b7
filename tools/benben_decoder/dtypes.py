"""Element types (format-spec/container.md, section 6) and their conversions to and from f32 (expression.md,
sections 1 and 2).

Elements are kept as unsigned integers of their size, *bits*; f32 values as numpy's float32.
"""

import numpy as np

from .errors import COMPATIBILITY, BenbenError

SIZES = {"f64": 8, "f32": 4, "f16": 2, "bf16": 2, "f8e4m3": 1, "f8e5m2": 1, "i64": 8, "i32": 4, "i16": 2, "i8": 1,
         "u64": 8, "u32": 4, "u16": 2, "u8": 1, "bool": 1}
FLOATS = ("f64", "f32", "f16", "bf16", "f8e4m3", "f8e5m2")
# What computed values can be handed out in.
COMPUTED = ("f64", "f32", "f16", "bf16")
_NUMPY = {"f64": "<f8", "f32": "<f4", "f16": "<f2", "i64": "<i8", "i32": "<i4", "i16": "<i2", "i8": "i1",
          "u64": "<u8", "u32": "<u4", "u16": "<u2", "u8": "u1"}


def known(dtype):
    """`dtype`, or an error of kind Compatibility."""
    if dtype not in SIZES:
        raise BenbenError(COMPATIBILITY, f"the dtype {dtype!r} is not known")
    return dtype


def bits_type(dtype):
    """The numpy type of the bits of an element."""
    return np.dtype(f"<u{SIZES[dtype]}")


def _f8e4m3_values():
    values = np.empty(256, np.float32)
    for byte in range(256):
        exponent, mantissa = byte >> 3 & 15, byte & 7
        if byte & 127 == 127:
            magnitude = float("nan")
        elif exponent:
            magnitude = (8 + mantissa) * 2.0 ** (exponent - 10)
        else:
            magnitude = mantissa * 2.0 ** -9
        values[byte] = np.copysign(magnitude, -1.0 if byte & 128 else 1.0)
    return values


F8E4M3 = _f8e4m3_values()


def to_f32(bits, dtype):
    """Bits of elements as f32, exact where it can be, else rounded to nearest even."""
    if dtype == "bf16":
        return (bits.astype(np.uint32) << np.uint32(16)).view(np.float32)
    if dtype == "f8e4m3":
        return F8E4M3[bits]
    if dtype == "f8e5m2":
        return (bits.astype(np.uint16) << np.uint16(8)).view(np.float16).astype(np.float32)
    if dtype == "bool":
        return (bits != 0).astype(np.float32)
    with np.errstate(all="ignore"):
        return bits.view(_NUMPY[dtype]).astype(np.float32)


def from_f32(values, dtype):
    """f32 values as bits of `dtype`, one of COMPUTED, rounded to nearest even."""
    with np.errstate(all="ignore"):
        if dtype == "bf16":
            wide = values.view(np.uint32)
            rounded = (wide + np.uint32(0x7FFF) + ((wide >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16)
            quiet = (wide >> np.uint32(16)) | np.uint32(0x40)
            return np.where(np.isnan(values), quiet, rounded).astype(np.uint16)
        return values.astype(_NUMPY[dtype]).view(bits_type(dtype))
