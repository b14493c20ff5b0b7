//! GGUF, the file format of llama.cpp: typed key-values, then tensors, many of them in quantized blocks.
//!
//! Source: the format's description, <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>. Versions 2 and 3,
//! little-endian; both are laid out alike:
//!
//! | bytes | what |
//! |---|---|
//! | 4 + 4 | `GGUF`, version u32 |
//! | 8 + 8 | number of tensors, number of key-values, u64 |
//! | each key-value | key (string), type u32, value (`metadata.rs`) |
//! | each tensor | name (string), number of dimensions u32, dimensions u64 (innermost first), type u32, offset u64 |
//! | padding | to `general.alignment`, 32 unless given; tensor offsets count from here and are multiples of it |
//! | data | tensors |
//!
//! A string is its length in bytes, u64, and UTF-8. Block-quantized tensors are given as f32 (`blocks.rs`): the
//! exact values that the reference implementation computes.

mod blocks;
mod cursor;
mod metadata;
mod read;
mod types;

pub use read::Gguf;
