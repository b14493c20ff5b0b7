//! Reader of one GGUF file.

use super::cursor::Cursor;
use super::metadata;
use super::types::{TensorType, Values, by_id};
use crate::model::{ModelSource, SideFile, TensorInfo, entry, memory};
use crate::names::first_duplicate;
use benben_format::{Dtype, Error, ReadAt, Result, Source, element_count};
use std::borrow::Cow;
use std::collections::BTreeMap;

/// Alignment of tensors where the file gives none.
const DEFAULT_ALIGNMENT: u64 = 32;

/// Fixed part in front of the key-values.
pub(super) struct Preamble {
    pub(super) version: u32,
    tensors: u64,
    pub(super) key_values: u64,
}

impl Preamble {
    pub(super) fn read(cursor: &mut Cursor<'_>) -> Result<Self> {
        let magic: [u8; 4] = cursor.array("magic")?;
        if magic != *b"GGUF" {
            return Err(Error::corruption(format!(
                "a GGUF file starts with 47 47 55 46, found {}",
                crate::detect::hex(&magic)
            )));
        }
        let version = cursor.u32("version")?;
        match version {
            2 | 3 => {}
            _ if version & 0xffff == 0 && version != 0 => {
                return Err(Error::unsupported("this GGUF file is big-endian")
                    .with_hint("convert it with llama.cpp's gguf_convert_endian.py"));
            }
            0 | 1 => {
                return Err(Error::unsupported(format!("GGUF version {version}, read are 2 and 3"))
                    .with_hint("convert the original model again with llama.cpp's convert_hf_to_gguf.py"));
            }
            _ => return Err(Error::compatibility(format!("GGUF version {version}, read are 2 and 3"))),
        }
        let (tensors, key_values) = (cursor.u64("number of tensors")?, cursor.u64("number of key-values")?);
        Ok(Self { version, tensors, key_values })
    }
}

/// A GGUF file.
pub struct Gguf {
    source: Source,
    tensors: Vec<TensorInfo>,
    places: Vec<Place>,
    metadata: BTreeMap<String, String>,
    files: Vec<SideFile>,
}

/// Where a tensor is and how it is read.
struct Place {
    offset: u64,
    /// `None` for a type that is not known.
    kind: Option<&'static TensorType>,
}

impl Gguf {
    /// Reads and checks the header of `source`; no tensor is touched. Tensors of types without a reader are listed,
    /// as f32, and refused when they are read.
    ///
    /// # Errors
    /// [`InsufficientData`](benben_format::ErrorKind::InsufficientData) for a file that is cut short: bytes missing
    /// and the first tensor that is not complete; [`Corruption`](benben_format::ErrorKind::Corruption) where names
    /// or keys repeat, a shape does not fit its type, or tensors overlap or are not aligned;
    /// [`Unsupported`](benben_format::ErrorKind::Unsupported) for version 1, big-endian files and parts of a split
    /// model; [`Compatibility`](benben_format::ErrorKind::Compatibility) for a later version.
    pub fn new(source: Source) -> Result<Self> {
        let mut cursor = Cursor::new(&*source);
        let preamble = Preamble::read(&mut cursor)?;
        let metadata = read_metadata(&mut cursor, preamble.key_values)?;
        refuse_parts(&metadata)?;
        let mut tensors = Vec::new();
        for _ in 0..preamble.tensors {
            tensors.push(read_tensor(&mut cursor)?);
        }
        if let Some(name) = first_duplicate(tensors.iter().map(|(info, _)| info.name.as_str())) {
            return Err(Error::corruption("the file has this tensor twice").in_tensor(name));
        }
        let alignment = alignment(&metadata)?;
        let data = cursor.at().next_multiple_of(alignment);
        tensors.sort_by_key(|(info, place)| (place.offset, info.source_bytes));
        place(&mut tensors, data, alignment, source.len())?;
        let json = {
            let source = source.clone();
            SideFile::made(metadata::SIDE_FILE, move || metadata::side_file(&*source))?
        };
        let (tensors, places) = tensors.into_iter().unzip();
        Ok(Self { source, tensors, places, metadata, files: vec![json] })
    }
}

fn read_metadata(cursor: &mut Cursor<'_>, count: u64) -> Result<BTreeMap<String, String>> {
    let mut keys = Vec::new();
    let mut scalars = BTreeMap::new();
    for _ in 0..count {
        let (key, kind) = metadata::key(cursor)?;
        if let Some(text) = metadata::text(cursor, &key, kind)? {
            scalars.insert(key.clone(), text);
        }
        keys.push(key);
    }
    match first_duplicate(keys.iter().map(String::as_str)) {
        Some(key) => Err(Error::corruption(format!("the file has the key {key:?} twice"))),
        None => Ok(scalars),
    }
}

/// Refuses one part of a model that was cut into several files: the others would be missing silently.
fn refuse_parts(metadata: &BTreeMap<String, String>) -> Result<()> {
    let number = |key| metadata.get(key).and_then(|n: &String| n.parse::<u64>().ok());
    match number("split.count") {
        Some(count) if count > 1 => {
            let part =
                number("split.no").map_or("one part".to_owned(), |n| format!("part {}", n.saturating_add(1)));
            Err(Error::unsupported(format!("this is {part} of a GGUF model in {count} files"))
                .with_hint("join them with `llama-gguf-split --merge`"))
        }
        _ => Ok(()),
    }
}

fn alignment(metadata: &BTreeMap<String, String>) -> Result<u64> {
    let Some(text) = metadata.get("general.alignment") else { return Ok(DEFAULT_ALIGNMENT) };
    match text.parse::<u32>() {
        Ok(n) if n.is_power_of_two() => Ok(n.into()),
        _ => Err(Error::corruption(format!("general.alignment must be a power of two, found {text}"))),
    }
}

/// The next tensor; its offset still counts from the start of the data.
fn read_tensor(cursor: &mut Cursor<'_>) -> Result<(TensorInfo, Place)> {
    let name = cursor.string("tensor name")?;
    read_named(cursor, &name).map_err(|e| e.in_tensor(&name))
}

fn read_named(cursor: &mut Cursor<'_>, name: &str) -> Result<(TensorInfo, Place)> {
    let dims = u64::from(cursor.u32("number of dimensions")?);
    cursor.expect(dims * 8, "dimensions")?;
    let mut shape = Vec::new();
    for _ in 0..dims {
        shape.push(cursor.u64("dimension")?);
    }
    shape.reverse();
    let id = cursor.u32("tensor type")?;
    let offset = cursor.u64("tensor offset")?;
    let elements = element_count(&shape)?;
    let over = || Error::limit(format!("shape {shape:?} takes over 2^64 bytes"));
    // Eight bytes for a value, so that the bytes of values cannot wrap, whatever their type.
    elements.checked_mul(8).ok_or_else(over)?;
    let kind = by_id(id);
    let source_bytes = kind.map_or(Ok(0), |kind| {
        // Rows are whole blocks, so that each can be read on its own.
        let row = shape.last().copied().unwrap_or(1);
        if !row.is_multiple_of(kind.elements) {
            return Err(Error::corruption(format!(
                "rows of {row} elements are no whole number of {} blocks, which have {}",
                kind.name, kind.elements
            )));
        }
        (elements / kind.elements).checked_mul(kind.bytes).ok_or_else(over)
    })?;
    let dtype = match kind.map(|k| k.values) {
        Some(Values::Stored(dtype)) => dtype,
        _ => Dtype::F32,
    };
    let source_type = kind.map_or_else(|| format!("type {id}"), |k| k.name.to_owned());
    let info = TensorInfo { name: name.into(), dtype, shape, source_type, source_bytes };
    Ok((info, Place { offset, kind }))
}

/// Makes the offsets of `tensors`, sorted by them, count from the start of the file; refuses what overlaps, is not
/// aligned or ends behind `total`. A tensor of an unknown type is given all bytes up to the next one.
fn place(tensors: &mut [(TensorInfo, Place)], data: u64, alignment: u64, total: u64) -> Result<()> {
    let mut end = 0u64;
    let mut before = String::new();
    let mut first_cut: Option<String> = None;
    for i in 0..tensors.len() {
        let next = tensors.get(i + 1).map_or(total.saturating_sub(data), |(_, p)| p.offset);
        let Some((info, place)) = tensors.get_mut(i) else { break };
        let fail = |e: Error| Err(e.in_tensor(&info.name));
        if !place.offset.is_multiple_of(alignment) {
            return fail(Error::corruption(format!(
                "offset {} is not a multiple of the alignment {alignment}",
                place.offset
            )));
        }
        if place.offset < end {
            return fail(Error::corruption(format!(
                "starts at {}, but {before} before it ends at {end}",
                place.offset
            )));
        }
        if place.kind.is_none() {
            info.source_bytes = next.saturating_sub(place.offset);
        }
        let bounds = place.offset.checked_add(info.source_bytes).zip(place.offset.checked_add(data));
        let Some((stop, start)) = bounds else {
            return fail(Error::corruption(format!("offset {} is out of any file's range", place.offset)));
        };
        end = stop;
        place.offset = start;
        before.clone_from(&info.name);
        let cut = end > total.saturating_sub(data) && (info.source_bytes > 0 || place.kind.is_none());
        if cut && first_cut.is_none() {
            first_cut = Some(info.name.clone());
        }
    }
    first_cut.map_or(Ok(()), |name| {
        let promised = u128::from(data) + u128::from(end);
        Err(Error::insufficient(format!(
            "the header promises a file of {promised} bytes, it has {total}: {} missing; \
             this is the first tensor that is not complete",
            promised - u128::from(total)
        ))
        .in_tensor(&name)
        .with_hint("the download was cut short: fetch the file again"))
    })
}

impl ModelSource for Gguf {
    fn format(&self) -> &'static str {
        "gguf"
    }

    fn tensors(&self) -> &[TensorInfo] {
        &self.tensors
    }

    fn read(&self, index: usize) -> Result<Cow<'_, [u8]>> {
        let (info, place) = (entry(&self.tensors, index)?, entry(&self.places, index)?);
        read_values(&*self.source, info, place).map_err(|e| e.in_tensor(&info.name))
    }

    fn release(&self, index: usize) {
        if let (Some(info), Some(place)) = (self.tensors.get(index), self.places.get(index)) {
            self.source.release(place.offset, info.source_bytes);
        }
    }

    fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    fn files(&self) -> &[SideFile] {
        &self.files
    }

    fn total_bytes(&self) -> u64 {
        self.source.len()
    }
}

fn read_values<'a>(source: &'a dyn ReadAt, info: &TensorInfo, place: &Place) -> Result<Cow<'a, [u8]>> {
    let values = place.kind.map_or(Values::Unread, |k| k.values);
    if let Values::Unread = values {
        return Err(Error::unsupported(format!("GGUF tensor type {} is not read", info.source_type))
            .with_hint(
                "read are f32 f16 bf16 f64 i8 i16 i32 i64 Q4_0 Q4_1 Q5_0 Q5_1 Q8_0 Q2_K to Q6_K IQ4_NL MXFP4",
            ));
    }
    if info.source_bytes == 0 {
        return Ok(Cow::Borrowed(&[]));
    }
    let len = memory(info.source_bytes)?;
    memory(element_count(&info.shape)?.saturating_mul(info.dtype.size() as u64))?;
    let bytes = source.read_at(place.offset, len)?;
    Ok(match values {
        Values::Blocks(expand) => Cow::Owned(expand(&bytes)),
        Values::Stored(_) | Values::Unread => bytes,
    })
}
