//! Packed weights on a GPU, through burn's wgpu backend.
//!
//! A leaf whose elements have few values (codecs `scalar`, `trellis`, `ternary`) is uploaded once as codes of 8 or 16
//! bits and a table of values, and expanded by kernels where it is needed: whole for products with many vectors, inside
//! the product for few. Codec `rvq` keeps its codes and codewords, which a kernel adds up. The leaf may be transposed;
//! factors of rows and columns around it are kept beside, and a rotated basis turns the inputs. Other tensors are
//! uploaded dense at each call and freed after it.

mod adapter;
mod codes;
mod kernels;
mod matrix;
mod sums;

pub use adapter::Adapter;
pub(crate) use matrix::DeviceMatrix;
