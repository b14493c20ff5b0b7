"""Makes every_type.gguf: small tensors of every type that benben-io reads, with the values that the reference
implementation gives. Run with `pip install gguf==0.19.0 numpy`; the output is committed.

For each block type T there are two tensors: "T", random blocks, and "T.values", the same dequantized to f32.
Codes are random bytes, so that every bit pattern of codes and scales occurs; the f16 factors are random but finite.
"""

from pathlib import Path

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType as Type, GGUFWriter
from gguf.quants import dequantize

# Byte offsets of the f16 factors in a block.
HALVES = {
    "Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "Q8_0": [0], "IQ4_NL": [0], "MXFP4": [],
    "Q2_K": [80, 82], "Q3_K": [108], "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208],
}
ROWS = 3

rng = np.random.default_rng(1)
writer = GGUFWriter(Path(__file__).with_name("every_type.gguf"), "llama")
writer.add_name("random blocks")
writer.add_uint8("kv.u8", 255)
writer.add_int8("kv.i8", -128)
writer.add_uint16("kv.u16", 65535)
writer.add_int16("kv.i16", -32768)
writer.add_uint32("kv.u32", 2**32 - 1)
writer.add_int32("kv.i32", -(2**31))
writer.add_float32("kv.f32", 0.1)
writer.add_bool("kv.bool", True)
writer.add_uint64("kv.u64", 2**64 - 1)
writer.add_int64("kv.i64", -(2**63))
writer.add_float64("kv.f64", 0.1)
writer.add_array("kv.strings", ["a", "ü\n"])
writer.add_array("kv.integers", [1, -2, 3])
writer.add_array("kv.floats", [0.5, -1e-9])

for name, offsets in HALVES.items():
    kind = Type[name]
    elements, size = GGML_QUANT_SIZES[kind]
    blocks = 4 if elements == 32 else 2
    raw = rng.integers(0, 256, (ROWS * blocks, size), dtype=np.uint8)
    if name == "MXFP4":
        # The two smallest exponents are special; the largest overflow f32.
        raw[:, 0] = rng.integers(100, 140, len(raw))
        raw[:4, 0] = [0, 1, 2, 250]
    for at in offsets:
        half = rng.normal(0, 0.1, len(raw)).astype(np.float16)
        half[:3] = [0.0, -0.0, 6e-8]
        raw[:, at : at + 2] = half.view(np.uint8).reshape(-1, 2)
    raw = raw.reshape(ROWS, blocks * size)
    values = dequantize(raw, kind)
    assert values.shape == (ROWS, blocks * elements) and values.dtype == np.float32
    assert np.isfinite(values).all()
    writer.add_tensor(name, raw, raw_dtype=kind)
    writer.add_tensor(f"{name}.values", values)

counting = np.arange(10, dtype=np.int64).reshape(2, 5) - 5
for name, dtype in [("f16", np.float16), ("f64", np.float64), ("i8", np.int8), ("i16", np.int16),
                    ("i32", np.int32), ("i64", np.int64)]:
    writer.add_tensor(name, counting.astype(dtype))
bf16 = (counting.astype(np.float32).view(np.uint32) >> 16).astype(np.uint16)
writer.add_tensor("bf16", bf16.view(np.uint8), raw_dtype=Type.BF16)
tq = rng.integers(0, 256, (1, GGML_QUANT_SIZES[Type.TQ1_0][1]), dtype=np.uint8)
writer.add_tensor("unread", tq, raw_dtype=Type.TQ1_0)

writer.write_header_to_file()
writer.write_kv_data_to_file()
writer.write_tensors_to_file()
writer.close()
