//! Trains the small language model that Benben embeds as its demo, from public-domain text.
//!
//! The path of the data, one module each:
//!
//! 1. [`text`] reads the books and holds out the end of each.
//! 2. [`tokenizer`] trains a byte-level BPE on what is left.
//! 3. [`data`] cuts the tokens into shuffled windows, with the numbers of [`rng`].
//! 4. [`model`] holds the network's parameters, shaped by [`config`]; what it computes is the graph of `benben-models`.
//! 5. [`train`] runs the steps, [`evaluate`] measures the held-out loss, [`sample`] writes text.
//! 6. [`weights`] and [`export`] write the folder that other programs load, [`record`] says how it was made.
//!
//! It is no general trainer: one architecture, one optimizer, one CPU. Nothing here prints; `main.rs` does.

pub mod config;
pub mod data;
pub mod evaluate;
pub mod export;
pub mod model;
pub mod record;
pub mod rng;
pub mod sample;
pub mod text;
pub mod tokenizer;
pub mod train;
pub mod weights;
