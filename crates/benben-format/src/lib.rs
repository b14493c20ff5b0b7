//! The Benben container: header, segments, index and trailer, and the types of what is stored.
//!
//! ```
//! use benben_format::*;
//! use std::sync::Arc;
//!
//! let mut leaf = EncodedLeaf::new(LeafSpec::new("raw", 1, Dtype::U8, &[3], &())?);
//! leaf.push(
//!     StreamSpec { kind: StreamKind::Bytes { width: 1 }, items: 3, chunk_items: 3 },
//!     vec![Chunk::new(Mode::Raw, vec![1, 2, 3])],
//! );
//! let mut writer = Writer::new(Vec::new(), "example", 0)?;
//! writer.tensor("t", Dtype::U8, &[3], Origin::default(), Expr::Leaf(leaf))?;
//! let (bytes, _) = writer.finish()?;
//!
//! let reader = Reader::open(Arc::new(bytes), Limits::default())?;
//! let entry = reader.tensor("t").unwrap();
//! let leaf = entry.expr.leaves()[0];
//! assert_eq!(&*reader.leaf(leaf).chunk(0, 0)?.bytes, [1, 2, 3]);
//! # Ok::<(), Error>(())
//! ```
//!
//! This crate knows bytes and trees, not codecs: to get tensors out of a pack use `benben-decode`, and to
//! make packs use the `benben` facade. The bytes are specified in `format-spec/container.md`.

mod atomic;
mod cbor;
mod directory;
mod dtype;
mod error;
mod expression;
mod header;
mod index;
pub mod layout;
mod leaf;
mod limits;
mod progress;
mod reader;
mod source;
mod writer;

pub use atomic::AtomicFile;
pub use directory::{Directory, Entry, FileEntry, Origin};
pub use dtype::{Dtype, element_count};
pub use error::{Error, ErrorKind, Result};
pub use expression::{Expr, HasSpec, Signature, StoredLeaf, matrix};
pub use index::Segment;
pub use leaf::{Chunk, EncodedLeaf, LeafSource, LeafSpec, Mode, StreamKind, StreamSpec};
pub use limits::{Limits, in_memory};
pub use progress::{Observer, Progress, ignore};
pub use reader::{LeafReader, Reader, hex};
pub use source::{FileSource, ReadAt, Source, check_range, open};
pub use writer::{Writer, Written};
