#!/usr/bin/env python3
"""A GGUF in f16 from the Hugging Face folder of a Llama or a Qwen2 with a byte-level tokenizer, for llama.cpp to run.

    python3 convert.py FOLDER OUT.gguf          # numpy, gguf, safetensors

llama.cpp's own converter needs torch. What this one does not know, it refuses.
"""
import json
import pathlib
import sys

import numpy
import gguf
from safetensors import safe_open

BLOCK = {
    "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm", "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
}
WHOLE = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}


def gguf_name(name):
    part, _, suffix = name.rpartition(".")
    if part in WHOLE:
        return f"{WHOLE[part]}.{suffix}"
    layer, _, part = part.removeprefix("model.layers.").partition(".")
    return f"blk.{int(layer)}.{BLOCK[part]}.{suffix}"


def rotate(rows, heads):
    """Rows of q or k: the two that turn together are half a head apart here, side by side in GGUF."""
    halves = rows.reshape(heads, 2, -1, *rows.shape[1:])
    return numpy.ascontiguousarray(halves.swapaxes(1, 2)).reshape(rows.shape)


def pre_tokenizer(tokenizer):
    """llama.cpp's name for how text is split before pairs are merged."""
    parts = tokenizer["pre_tokenizer"]
    parts = [part["type"] for part in parts.get("pretokenizers", [parts])]
    form = (tokenizer["normalizer"] or {}).get("type")
    known = {("Digits", "ByteLevel", None): "smollm", ("ByteLevel", None): "gpt-2", ("Split", "ByteLevel", "NFC"): "qwen2"}
    if (*parts, form) not in known or tokenizer["model"]["type"] != "BPE":
        sys.exit(f"a tokenizer that splits by {', '.join(parts)} is not known here")
    return known[(*parts, form)]


def add_tokenizer(writer, folder, config):
    tokenizer = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    special = {token["id"]: token["content"] for token in tokenizer["added_tokens"] if token["special"]}
    tokens = {i: token for token, i in tokenizer["model"]["vocab"].items()}
    tokens |= {token["id"]: token["content"] for token in tokenizer["added_tokens"]}
    count = config["vocab_size"]
    kind = lambda i: gguf.TokenType.CONTROL if i in special else \
        gguf.TokenType.NORMAL if i in tokens else gguf.TokenType.UNUSED
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre_tokenizer(tokenizer))
    writer.add_token_list([tokens.get(i, f"[PAD{i}]") for i in range(count)])
    writer.add_token_types([kind(i) for i in range(count)])
    merges = tokenizer["model"]["merges"]
    writer.add_token_merges([merge if isinstance(merge, str) else " ".join(merge) for merge in merges])
    writer.add_bos_token_id(config["bos_token_id"])
    writer.add_eos_token_id(config["eos_token_id"])
    writer.add_add_bos_token(False)


def main():
    folder, out = pathlib.Path(sys.argv[1]), sys.argv[2]
    config = json.loads((folder / "config.json").read_text())
    family = config["model_type"]
    if family not in ("llama", "qwen2") or config.get("rope_scaling"):
        sys.exit(f"{folder} is no plain Llama or Qwen2")
    heads, kv_heads = config["num_attention_heads"], config["num_key_value_heads"]
    writer = gguf.GGUFWriter(out, family)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(kv_heads)
    writer.add_rope_dimension_count(config.get("head_dim") or config["hidden_size"] // heads)
    writer.add_rope_freq_base(config["rope_theta"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_vocab_size(config["vocab_size"])
    add_tokenizer(writer, folder, config)
    with safe_open(str(folder / "model.safetensors"), framework="numpy") as tensors:
        for name in tensors.keys():
            rows = tensors.get_tensor(name)
            turned = {"q_proj": heads, "k_proj": kv_heads}.get(name.split(".")[-2])
            rows = rotate(rows, turned) if turned and family == "llama" else rows
            writer.add_tensor(gguf_name(name), rows.astype(numpy.float16 if rows.ndim == 2 else numpy.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    main()
