"""Files of safetensors: a u64 with the length of a JSON header, the header, the elements. Only what comparing needs."""

import json
import os

from .errors import IO, BenbenError, require

DTYPES = {"F64": "f64", "F32": "f32", "F16": "f16", "BF16": "bf16", "F8_E4M3": "f8e4m3", "F8_E5M2": "f8e5m2",
          "I64": "i64", "I32": "i32", "I16": "i16", "I8": "i8", "U64": "u64", "U32": "u32", "U16": "u16", "U8": "u8",
          "BOOL": "bool"}


def read(path):
    """Map of name to (dtype, shape, bytes) of the file at `path`."""
    try:
        with open(path, "rb") as file:
            data = memoryview(file.read())
    except OSError as error:
        raise BenbenError(IO, str(error)) from error
    require(len(data) >= 8, f"{path} is no safetensors file")
    start = 8 + int.from_bytes(data[:8], "little")
    require(start <= len(data), f"{path} is no safetensors file")
    out = {}
    for name, entry in json.loads(bytes(data[8:start])).items():
        if name != "__metadata__":
            begin, end = entry["data_offsets"]
            out[name] = DTYPES[entry["dtype"]], tuple(entry["shape"]), data[start + begin:start + end]
    return out


def read_all(path):
    """The same of a file, or of all .safetensors files of a folder."""
    if not os.path.isdir(path):
        return read(path)
    out = {}
    for name in sorted(os.listdir(path)):
        if name.endswith(".safetensors"):
            out.update(read(os.path.join(path, name)))
    return out
