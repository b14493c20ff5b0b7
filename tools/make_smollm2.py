#!/usr/bin/env python3
"""A Hugging Face folder in f16 from the GGUF of a Llama-family model whose matrices are quantized.

    python3 tools/make_smollm2.py MODEL.gguf OUT      # called by `tools/fetch_assets.py smollm2`; numpy, gguf, safetensors

For SmolLM2-135M-Instruct, of which the package index carries a Q4_1 GGUF and nothing else. Weights as they come out of a
quantizer lie on its lattice, where a codec with the same grid would look better than it is. So each weight is moved to a
uniformly random place inside its own cell: the file has the entropy of real weights again, and the model hardly suffers
(what is measured against it is measured against these weights, not against the original's). The draw has a fixed seed
and the order of the tensors is the file's: the output is the same on every machine. Vectors (norms) are f32 there and
stay so.
"""
import argparse
import json
import pathlib
import re

import numpy
from gguf import GGMLQuantizationType, GGUFReader, quants
from safetensors.numpy import save_file

# A block's name in GGUF and in Hugging Face's Llama.
BLOCK = {
    "attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm",
    "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj",
}
WHOLE = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
# tokenizer.ggml.token_type: what the tokenizer takes as one piece, whatever stands around it.
CONTROL, USER_DEFINED = 3, 4


def halves(blocks, at):
    """The f16 at a byte of each block, [blocks, 1] in f32."""
    return numpy.ascontiguousarray(blocks[:, at:at + 2]).view(numpy.float16).astype(numpy.float32)


def cells(kind, data):
    """Width of the quantizer's cell around each weight, in the weights' order (ggml-common.h has the blocks)."""
    size = {GGMLQuantizationType.Q4_1: 20, GGMLQuantizationType.Q8_0: 34, GGMLQuantizationType.Q6_K: 210}.get(kind)
    if size is None:
        raise SystemExit(f"weights of type {kind.name}: how wide its cells are is not known here")
    blocks = numpy.ascontiguousarray(data).reshape(-1, size)
    if kind == GGMLQuantizationType.Q6_K:
        # 256 weights: a scale of i8 for each 16, the step of the scales at the end.
        scales = numpy.ascontiguousarray(blocks[:, 192:208]).view(numpy.int8)
        return numpy.abs(halves(blocks, 208) * scales).repeat(16, axis=1).ravel()
    # 32 weights, the step in front.
    return numpy.abs(halves(blocks, 0)).repeat(32)


def values(tensor, random):
    """What the folder holds of a tensor, in the GGUF's order of rows."""
    kind = tensor.tensor_type
    if kind in (GGMLQuantizationType.F32, GGMLQuantizationType.F16):
        dense = numpy.array(tensor.data)
    else:
        dense = quants.dequantize(tensor.data, kind).astype(numpy.float32)
        if dense.ndim == 2:
            place = random.random(dense.size, dtype=numpy.float32) - 0.5
            dense = dense + (place * cells(kind, tensor.data)).reshape(dense.shape)
    return dense.astype(numpy.float16 if dense.ndim == 2 else numpy.float32)


def unrotate(rows, heads):
    """Rows of q or k: GGUF has the two that turn together side by side, Hugging Face half a head apart."""
    pairs = rows.reshape(heads, -1, 2, *rows.shape[1:])
    return pairs.swapaxes(1, 2).reshape(rows.shape)


def name_and_heads(name, heads, kv_heads):
    """Hugging Face's name, and the heads whose rows have to be put in order."""
    block = re.fullmatch(r"blk\.(\d+)\.(\w+)\.(\w+)", name)
    if not block:
        part, _, suffix = name.rpartition(".")
        return f"{WHOLE[part]}.{suffix}", None
    layer, part, suffix = block.groups()
    return f"model.layers.{layer}.{BLOCK[part]}.{suffix}", {"attn_q": heads, "attn_k": kv_heads}.get(part)


def config(field, tokens, tied):
    heads, width = int(field("llama.attention.head_count")), int(field("llama.embedding_length"))
    return {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": width,
        "intermediate_size": int(field("llama.feed_forward_length")),
        "num_hidden_layers": int(field("llama.block_count")), "num_attention_heads": heads,
        "num_key_value_heads": int(field("llama.attention.head_count_kv")), "head_dim": width // heads,
        "vocab_size": len(tokens), "max_position_embeddings": int(field("llama.context_length")),
        "rms_norm_eps": float(field("llama.attention.layer_norm_rms_epsilon")),
        "rope_theta": float(field("llama.rope.freq_base")), "hidden_act": "silu", "tie_word_embeddings": tied,
        "torch_dtype": "float16", "bos_token_id": int(field("tokenizer.ggml.bos_token_id")),
        "eos_token_id": int(field("tokenizer.ggml.eos_token_id")),
    }


def tokenizer(field, tokens):
    """Byte-level pairs as GPT-2 has them, each digit a piece of its own: what GGUF calls "smollm"."""
    if field("tokenizer.ggml.pre") != "smollm":
        raise SystemExit(f"how tokenizer {field('tokenizer.ggml.pre')} splits text is not known here")
    whole = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    bytes_ = {"type": "ByteLevel", "trim_offsets": True, "use_regex": True}
    return {
        "version": "1.0", "truncation": None, "padding": None,
        "added_tokens": [{"id": i, "content": token, **whole} for i, (token, kind) in
                         enumerate(zip(tokens, field("tokenizer.ggml.token_type"))) if kind in (CONTROL, USER_DEFINED)],
        "normalizer": None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "Digits", "individual_digits": True}, {**bytes_, "add_prefix_space": False}]},
        "post_processor": None, "decoder": {**bytes_, "add_prefix_space": True},
        "model": {
            "type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
            "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False,
            "vocab": {token: i for i, token in enumerate(tokens)}, "merges": field("tokenizer.ggml.merges"),
        },
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=pathlib.Path, metavar="MODEL.gguf")
    parser.add_argument("out", type=pathlib.Path, metavar="OUT", help="folder to make")
    args = parser.parse_args()

    reader = GGUFReader(str(args.model))
    field = lambda key: reader.fields[key].contents()
    heads, kv_heads = int(field("llama.attention.head_count")), int(field("llama.attention.head_count_kv"))
    random, tensors = numpy.random.default_rng(0), {}
    for tensor in reader.tensors:
        dense = values(tensor, random)
        name, turned = name_and_heads(tensor.name, heads, kv_heads)
        tensors[name] = numpy.ascontiguousarray(unrotate(dense, turned) if turned else dense)

    args.out.mkdir(parents=True, exist_ok=True)
    save_file(tensors, str(args.out / "model.safetensors"), metadata={"format": "pt"})
    tokens = field("tokenizer.ggml.tokens")
    about = config(field, tokens, "lm_head.weight" not in tensors)
    special = {
        "tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": about["max_position_embeddings"],
        "bos_token": tokens[about["bos_token_id"]], "eos_token": tokens[about["eos_token_id"]],
        "chat_template": field("tokenizer.chat_template"), "add_bos_token": False,
    }
    for file, content in (("config", about), ("tokenizer", tokenizer(field, tokens)), ("tokenizer_config", special)):
        (args.out / f"{file}.json").write_text(json.dumps(content, indent=1 if file == "config" else None))


if __name__ == "__main__":
    main()
