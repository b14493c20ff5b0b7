//! Streams to chunks and back: rANS, zstd, bit-packed, constant and raw.
//!
//! Three kinds of streams ([`StreamKind`](benben_format::StreamKind)): *symbols* (u8, alphabet at most 256) coded with
//! static [`Table`]s, *words* (u64, bit-packed), and *bytes* (records of 1 to 8 bytes, raw or zstd). Each encoder cuts
//! its input into chunks, codes chunks in parallel and keeps the smallest mode for each; each decoder reads just the
//! chunks that cover the range asked for. Bits never depend on threads.
//!
//! ```
//! use benben_codec::entropy::{self, Model, Table};
//! use benben_format::{Dtype, EncodedLeaf, LeafSpec};
//!
//! let symbols: Vec<u8> = (0..10_000u32).map(|i| (i * i % 7 % 3) as u8).collect();
//! let mut counts = [0; 256];
//! symbols.iter().for_each(|&s| counts[usize::from(s)] += 1);
//! let table = Table::from_counts(&counts);
//!
//! let (spec, chunks) = entropy::encode_symbols(&symbols, &Model::single(&table), entropy::CHUNK_ITEMS)?;
//! let mut leaf = EncodedLeaf::new(LeafSpec::new("example", 1, Dtype::U8, &[10_000], &())?);
//! leaf.push(spec, chunks);
//!
//! let mut out = [0; 100];
//! entropy::decode_symbols(&leaf, 0, 500..600, &Model::single(&table), &mut out)?;
//! assert_eq!(out, symbols[500..600]);
//! # Ok::<(), benben_format::Error>(())
//! ```
//!
//! | file | owns |
//! |---|---|
//! | `stream` | streams: cutting, ranges, threads |
//! | `chunk` | the choice of a mode and the layout of each |
//! | `rans`, `reference` | the 32-lane coder, and the same bits by `constriction` |
//! | `kernel` | its inner loop, in plain Rust and for each instruction set |
//! | `table`, `fit`, `table_code` | frequencies, the encoder's choice of them, their serialized form |
//! | `model`, `values` | which table codes which symbol, and what symbols become |
//! | `bits`, `zstd_mode` | bit fields and zstd frames |
//! | `side` | small side information |

pub mod bits;
mod chunk;
mod fit;
mod kernel;
mod model;
pub mod rans;
pub mod reference;
mod side;
mod stream;
mod table;
mod table_code;
mod values;
mod zstd_mode;

pub use chunk::Preference;
pub use fit::fit_tables;
pub use kernel::Kernel;
pub use model::{Columns, Model, Rows, Trellis};
pub use side::{SideReader, SideWriter};
pub(crate) use stream::TOGETHER;
pub use stream::{
    SymbolDecoder, decode_bytes, decode_symbols, decode_symbols_by, decode_values, decode_values_by,
    decode_words, encode_bytes, encode_symbols, encode_symbols_by, encode_words, estimate_symbols_bytes,
};
pub use table::Table;
pub use table_code::{read_tables, tables_bytes, write_tables};
pub use values::Values;

/// Items of a chunk unless a codec says otherwise: 0.1 % overhead of lane states.
pub const CHUNK_ITEMS: u32 = 1 << 18;
