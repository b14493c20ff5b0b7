//! Lazy readers of foreign model files, and a safetensors writer.
//!
//! [`open`] looks at the content of a file or folder and gives a [`ModelSource`]: the list of tensors at once, the
//! bytes of each when they are asked for. A model larger than memory is read with the memory of one tensor.
//!
//! | what | reader | values |
//! |---|---|---|
//! | `*.safetensors` | [`safetensors::SafeTensors`] | as stored |
//! | `*.safetensors.index.json` | [`sharded::Sharded`] | as stored, shards in the order of their names |
//! | a Hugging Face folder | [`folder::Folder`] | as its weights; configuration and tokenizer travel along |
//! | `*.gguf` | [`gguf::Gguf`] | as stored; block-quantized types are given as f32 |
//!
//! ```
//! use benben_format::Dtype;
//! use benben_io::ModelSource;
//! use benben_io::safetensors::{SafeTensors, TensorSpec, write};
//! use std::{borrow::Cow, collections::BTreeMap, sync::Arc};
//!
//! let specs = [TensorSpec { name: "w".into(), dtype: Dtype::F32, shape: vec![2] }];
//! let mut file = Vec::new();
//! write(&mut file, &specs, &BTreeMap::new(), |_| Ok(Cow::Owned(Dtype::F32.from_f32(&[0.5, -1.0])?)))?;
//!
//! let model = SafeTensors::new(Arc::new(file))?;
//! assert_eq!(model.tensors()[0].shape, [2]);
//! assert_eq!(model.read(0)?, [0.5f32.to_le_bytes(), (-1f32).to_le_bytes()].concat());
//! # Ok::<(), benben_format::Error>(())
//! ```
//!
//! Files are mapped where the `mmap` feature of `benben-format` is on: do not rewrite a model while it is open.
//!
//! *Not for*: running pickled code (PyTorch `.bin`, `.pt` are recognized and refused), writing GGUF, or giving
//! tensors other names than the file does.
//!
//! # How to add a reader
//!
//! 1. Make `src/FORMAT/mod.rs`; its documentation gives the byte layout and where it is defined.
//! 2. Write a type over [`benben_format::Source`] that checks every count and range of the header against the
//!    bytes that are there, before it allocates; name the tensor in each error.
//! 3. Implement [`ModelSource`] for it: tensors in the order of their data; `read` touches the bytes of one tensor.
//! 4. Keep what is no tensor: scalars in `metadata`, the rest as a [`SideFile`].
//! 5. Teach `detect.rs` the first bytes of the format, and `folder.rs` its extension.
//! 6. Add it to `tests/attacks.rs` (10,000 hostile inputs, cuts at every byte) and hold it against the reference
//!    implementation with a small committed file and its generator, as `tests/golden.rs` does.

mod detect;
pub mod folder;
pub mod gguf;
mod model;
mod names;
mod open;
pub mod safetensors;
pub mod sharded;

pub use model::{ModelSource, SideFile, TensorInfo};
pub use open::open;
