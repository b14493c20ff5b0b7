//! The Benben container. (Module documentation is completed with the reader and the writer.)

mod dtype;
mod error;
pub mod layout;
mod leaf;
mod source;

pub use dtype::{Dtype, element_count};
pub use error::{Error, ErrorKind, Result};
pub use leaf::{Chunk, EncodedLeaf, LeafSource, LeafSpec, Mode, StreamKind, StreamSpec};
pub use source::{FileSource, ReadAt, Source, check_range, open};
