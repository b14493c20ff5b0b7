#!/usr/bin/env python3
"""A Hugging Face folder in f16 from the GGUF of a Llama-family model whose matrices are quantized.

    python3 tools/make_llm.py MODEL.gguf OUT      # called by `tools/fetch_assets.py`; numpy, gguf, safetensors

For models of which the package index carries a quantized GGUF and nothing else. Weights as they come out of a quantizer
lie on its lattice, where a codec with the same grid would look better than it is. So each weight is moved to a uniformly
random place inside its own cell: the file has the entropy of real weights again, and the model hardly suffers (what is
measured against it is measured against these weights, not against the original's). The draw has a fixed seed and the
order of the tensors is the file's: the output is the same on every machine. Vectors (norms, biases) are f32 there and
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
# tokenizer.ggml.token_type: what the tokenizer takes as one piece, whatever stands around it; and what is no token.
CONTROL, USER_DEFINED, UNUSED = 3, 4, 5
# general.architecture: what transformers calls it. Only Llama's rows of q and k are in another order in GGUF.
FAMILIES = {"llama": ("LlamaForCausalLM", "llama"), "qwen2": ("Qwen2ForCausalLM", "qwen2")}


def halves(blocks, at):
    """The f16 at a byte of each block, [blocks, 1] in f32."""
    return numpy.ascontiguousarray(blocks[:, at:at + 2]).view(numpy.float16).astype(numpy.float32)


def cells(kind, data):
    """Width of the quantizer's cell around each weight, in the weights' order (ggml-common.h has the blocks)."""
    size = {GGMLQuantizationType.Q4_1: 20, GGMLQuantizationType.Q5_0: 22, GGMLQuantizationType.Q8_0: 34,
            GGMLQuantizationType.Q4_K: 144, GGMLQuantizationType.Q6_K: 210}.get(kind)
    if size is None:
        raise SystemExit(f"weights of type {kind.name}: how wide its cells are is not known here")
    blocks = numpy.ascontiguousarray(data).reshape(-1, size)
    if kind == GGMLQuantizationType.Q6_K:
        # 256 weights: a scale of i8 for each 16, the step of the scales at the end.
        scales = numpy.ascontiguousarray(blocks[:, 192:208]).view(numpy.int8)
        return numpy.abs(halves(blocks, 208) * scales).repeat(16, axis=1).ravel()
    if kind == GGMLQuantizationType.Q4_K:
        # 256 weights: a scale of six bits for each 32; the upper two bits of the last four lie over the first four.
        packed = blocks[:, 4:16]
        last = (packed[:, 8:] & 15) | (packed[:, :4] >> 6 << 4)
        return numpy.abs(halves(blocks, 0) * numpy.hstack([packed[:, :4] & 63, last])).repeat(32, axis=1).ravel()
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


def config(family, field, tokens, tied):
    of = lambda key: field(f"{family}.{key}")
    architecture, model_type = FAMILIES[family]
    heads, width = int(of("attention.head_count")), int(of("embedding_length"))
    return {
        "architectures": [architecture], "model_type": model_type, "hidden_size": width,
        "intermediate_size": int(of("feed_forward_length")),
        "num_hidden_layers": int(of("block_count")), "num_attention_heads": heads,
        "num_key_value_heads": int(of("attention.head_count_kv")), "head_dim": width // heads,
        "vocab_size": len(tokens), "max_position_embeddings": int(of("context_length")),
        "rms_norm_eps": float(of("attention.layer_norm_rms_epsilon")),
        "rope_theta": float(of("rope.freq_base")), "hidden_act": "silu", "tie_word_embeddings": tied,
        "torch_dtype": "float16", "bos_token_id": int(field("tokenizer.ggml.bos_token_id")),
        "eos_token_id": int(field("tokenizer.ggml.eos_token_id")),
    }


def splitting(name):
    """How text is cut before pairs are merged, and its normal form, by GGUF's name of the tokenizer."""
    bytes_ = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
    if name == "smollm":
        # As GPT-2 cuts, and each digit is a piece of its own.
        return [{"type": "Digits", "individual_digits": True}, {**bytes_, "use_regex": True}], None
    if name == "qwen2":
        contraction, word, digit = "(?i:'s|'t|'re|'ve|'m|'ll|'d)", r"[^\r\n\p{L}\p{N}]?\p{L}+", r"\p{N}"
        signs, space = r" ?[^\s\p{L}\p{N}]+[\r\n]*", r"\s*[\r\n]+|\s+(?!\S)|\s+"
        pieces = {"type": "Split", "pattern": {"Regex": "|".join([contraction, word, digit, signs, space])},
                  "behavior": "Isolated", "invert": False}
        return [pieces, {**bytes_, "use_regex": False}], {"type": "NFC"}
    raise SystemExit(f"how tokenizer {name} splits text is not known here")


def tokenizer(field, tokens):
    """Byte-level pairs as GPT-2 has them."""
    pieces, normalizer = splitting(field("tokenizer.ggml.pre"))
    kinds = field("tokenizer.ggml.token_type")
    whole = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    return {
        "version": "1.0", "truncation": None, "padding": None,
        "added_tokens": [{"id": i, "content": token, **whole} for i, (token, kind) in
                         enumerate(zip(tokens, kinds)) if kind in (CONTROL, USER_DEFINED)],
        "normalizer": normalizer,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": pieces},
        "post_processor": None,
        "decoder": {"type": "ByteLevel", "trim_offsets": True, "use_regex": True, "add_prefix_space": True},
        "model": {
            "type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
            "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False,
            "vocab": {token: i for i, (token, kind) in enumerate(zip(tokens, kinds)) if kind != UNUSED},
            "merges": field("tokenizer.ggml.merges"),
        },
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=pathlib.Path, metavar="MODEL.gguf")
    parser.add_argument("out", type=pathlib.Path, metavar="OUT", help="folder to make")
    parser.add_argument("--tied", action="store_true",
                        help="one table for looking up and for predicting, of a file that has it twice: the second")
    args = parser.parse_args()

    reader = GGUFReader(str(args.model))
    field = lambda key: reader.fields[key].contents()
    family = field("general.architecture")
    if family not in FAMILIES:
        raise SystemExit(f"architecture {family} is not known here")
    heads, kv_heads = (int(field(f"{family}.attention.head_count{more}")) for more in ("", "_kv"))
    random, tensors = numpy.random.default_rng(0), {}
    for tensor in reader.tensors:
        name, turned = name_and_heads(tensor.name, heads, kv_heads)
        if args.tied and name == "model.embed_tokens.weight":
            continue
        name = "model.embed_tokens.weight" if args.tied and name == "lm_head.weight" else name
        dense = values(tensor, random)
        turned = turned if family == "llama" else None
        tensors[name] = numpy.ascontiguousarray(unrotate(dense, turned) if turned else dense)

    args.out.mkdir(parents=True, exist_ok=True)
    save_file(tensors, str(args.out / "model.safetensors"), metadata={"format": "pt"})
    tokens = field("tokenizer.ggml.tokens")
    about = config(family, field, tokens, "lm_head.weight" not in tensors)
    special = {
        "tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": about["max_position_embeddings"],
        "bos_token": tokens[about["bos_token_id"]], "eos_token": tokens[about["eos_token_id"]],
        "chat_template": field("tokenizer.chat_template"), "add_bos_token": False,
    }
    for file, content in (("config", about), ("tokenizer", tokenizer(field, tokens)), ("tokenizer_config", special)):
        (args.out / f"{file}.json").write_text(json.dumps(content, indent=1 if file == "config" else None))


if __name__ == "__main__":
    main()
