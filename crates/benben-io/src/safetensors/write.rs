//! Writer of one safetensors file, one tensor in memory at a time.

use super::{METADATA, dtype_name, tensor_bytes};
use crate::detect::MAX_SAFETENSORS_HEADER;
use crate::names::first_duplicate;
use benben_format::{Dtype, Error, Result};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::Write;

/// A tensor to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorSpec {
    /// Name, unique in the file.
    pub name: String,
    /// Type of the values.
    pub dtype: Dtype,
    /// Shape, outermost dimension first.
    pub shape: Vec<u64>,
}

/// Writes a safetensors file to `out` and returns its length in bytes. `next(i)` gives the values of `tensors[i]`,
/// little-endian, and is called once for each.
///
/// Data follows the order of `tensors` where every tensor then starts at a multiple of its element size, as
/// zero-copy readers need it. Otherwise tensors with wider elements come first, which is what the reference writer
/// does. The same arguments always give the same bytes.
///
/// # Errors
/// [`InvalidArgument`](benben_format::ErrorKind::InvalidArgument) for repeated or reserved names, and where `next`
/// gives another length than type and shape promise; [`Limit`](benben_format::ErrorKind::Limit) for a header over
/// 100 MB; what `next` and `out` report. What was written so far is then no valid file.
pub fn write<'a>(
    out: &mut (impl Write + ?Sized),
    tensors: &[TensorSpec],
    metadata: &BTreeMap<String, String>,
    mut next: impl FnMut(usize) -> Result<Cow<'a, [u8]>>,
) -> Result<u64> {
    if let Some(name) = first_duplicate(tensors.iter().map(|t| t.name.as_str())) {
        return Err(Error::invalid("two tensors of this name cannot go into one file").in_tensor(name));
    }
    let order = data_order(tensors)?;
    let (header, data) = header(tensors, &order, metadata)?;
    out.write_all(&(header.len() as u64).to_le_bytes())?;
    out.write_all(&header)?;
    for i in order {
        let Some(tensor) = tensors.get(i) else { continue };
        let expected = tensor_bytes(tensor.dtype, &tensor.shape)?;
        let bytes = next(i).map_err(|e| e.in_tensor(&tensor.name))?;
        if bytes.len() as u64 != expected {
            return Err(Error::invalid(format!(
                "shape {:?} of {} takes {expected} bytes, {} were given",
                tensor.shape,
                tensor.dtype,
                bytes.len()
            ))
            .in_tensor(&tensor.name));
        }
        out.write_all(&bytes)?;
    }
    Ok(8 + header.len() as u64 + data)
}

/// Indices of `tensors` in the order of their data.
fn data_order(tensors: &[TensorSpec]) -> Result<Vec<usize>> {
    let mut order: Vec<usize> = (0..tensors.len()).collect();
    let mut at = 0u64;
    let mut aligned = true;
    for tensor in tensors {
        aligned &= at.is_multiple_of(tensor.dtype.size() as u64);
        at = add(at, tensor_bytes(tensor.dtype, &tensor.shape)?)?;
    }
    if !aligned {
        // Sizes are powers of two: behind wider elements, narrower ones are always aligned.
        order.sort_by_key(|&i| tensors.get(i).map(|t| std::cmp::Reverse(t.dtype.size())));
    }
    Ok(order)
}

/// The padded header, and the bytes of all tensors.
fn header(
    tensors: &[TensorSpec],
    order: &[usize],
    metadata: &BTreeMap<String, String>,
) -> Result<(Vec<u8>, u64)> {
    let mut fields = Vec::with_capacity(tensors.len() + 1);
    if !metadata.is_empty() {
        fields.push(format!("{}:{}", json(METADATA)?, json(metadata)?));
    }
    let mut at = 0u64;
    for tensor in order.iter().filter_map(|&i| tensors.get(i)) {
        if tensor.name == METADATA {
            return Err(Error::invalid("this name is reserved in safetensors").in_tensor(METADATA));
        }
        let end = add(at, tensor_bytes(tensor.dtype, &tensor.shape)?)?;
        fields.push(format!(
            r#"{}:{{"dtype":"{}","shape":{},"data_offsets":[{at},{end}]}}"#,
            json(&tensor.name)?,
            dtype_name(tensor.dtype)?,
            json(&tensor.shape)?
        ));
        at = end;
    }
    let mut header = format!("{{{}}}", fields.join(",")).into_bytes();
    header.resize(header.len().next_multiple_of(8), b' ');
    if header.len() as u64 > MAX_SAFETENSORS_HEADER {
        return Err(Error::limit(format!(
            "{} tensors make a header of {} bytes, at most {MAX_SAFETENSORS_HEADER} are allowed",
            tensors.len(),
            header.len()
        )));
    }
    Ok((header, at))
}

fn add(at: u64, bytes: u64) -> Result<u64> {
    at.checked_add(bytes).ok_or_else(|| Error::limit("the tensors take more than 2^64 bytes"))
}

fn json(value: &(impl serde::Serialize + ?Sized)) -> Result<String> {
    serde_json::to_string(value).map_err(|e| Error::invalid(format!("no JSON form: {e}")))
}
