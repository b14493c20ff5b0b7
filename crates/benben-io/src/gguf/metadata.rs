//! Key-values: scalars as text for [`metadata`](crate::ModelSource::metadata), all of them as the side file
//! `gguf.json`.
//!
//! | type | id | value |
//! |---|---|---|
//! | uint8 int8 uint16 int16 uint32 int32 float32 | 0-6 | little-endian |
//! | bool | 7 | one byte, 0 or 1 |
//! | string | 8 | length u64, bytes |
//! | array | 9 | type u32, count u64, values; arrays may nest |
//! | uint64 int64 float64 | 10-12 | little-endian |
//!
//! `gguf.json` loses nothing: `{"version": 3, "metadata": {key: {"type": "uint32", "value": 1}, ..}}` in the order of
//! the file. Arrays are `{"type": "array", "items": "string", "value": [..]}`, arrays in arrays the same again.
//! What JSON cannot say is written by its bits: strings that are not UTF-8 as `{"hex": "c3"}`, floats that are not
//! finite as `{"bits": "7fc00000"}`.
//!
//! Arrays of real models hold the whole vocabulary. They are never kept: opening walks over them, and `gguf.json` is
//! made from the file when it is asked for.

use super::cursor::Cursor;
use super::read::Preamble;
use benben_format::{Error, ReadAt, Result};
use std::io::Write;

/// Name of the side file.
pub(super) const SIDE_FILE: &str = "gguf.json";

/// Deepest nesting of arrays; no known writer nests at all.
const MAX_DEPTH: u32 = 8;

/// Type of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    U8,
    I8,
    U16,
    I16,
    U32,
    I32,
    F32,
    Bool,
    String,
    Array,
    U64,
    I64,
    F64,
}

impl Kind {
    /// Every type with its name and its fewest bytes, at its id.
    const ALL: [(Self, &'static str, u64); 13] = [
        (Self::U8, "uint8", 1),
        (Self::I8, "int8", 1),
        (Self::U16, "uint16", 2),
        (Self::I16, "int16", 2),
        (Self::U32, "uint32", 4),
        (Self::I32, "int32", 4),
        (Self::F32, "float32", 4),
        (Self::Bool, "bool", 1),
        (Self::String, "string", 8),
        (Self::Array, "array", 12),
        (Self::U64, "uint64", 8),
        (Self::I64, "int64", 8),
        (Self::F64, "float64", 8),
    ];

    /// The type at the cursor, with its name and its fewest bytes.
    fn read(cursor: &mut Cursor<'_>, of: &str) -> Result<(Self, &'static str, u64)> {
        let id = cursor.u32(of)?;
        usize::try_from(id).ok().and_then(|i| Self::ALL.get(i).copied()).ok_or_else(|| {
            Error::corruption(format!(
                "{of}: value type {id} is unknown, known are 0 to {}",
                Self::ALL.len() - 1
            ))
        })
    }
}

/// Key and type of the next key-value; the cursor is left at the value.
pub(super) fn key(cursor: &mut Cursor<'_>) -> Result<(String, Kind)> {
    let key = cursor.string("key")?;
    let (kind, ..) = Kind::read(cursor, &key)?;
    Ok((key, kind))
}

/// The value as text, where it is a scalar that has one; walks over all others.
pub(super) fn text(cursor: &mut Cursor<'_>, key: &str, kind: Kind) -> Result<Option<String>> {
    match kind {
        Kind::Array => write_value(cursor, key, kind, 0, &mut std::io::sink()).map(|()| None),
        Kind::String => Ok(std::str::from_utf8(cursor.bytes(key)?).ok().map(str::to_owned)),
        _ => {
            let mut text = Vec::new();
            write_value(cursor, key, kind, 0, &mut text)?;
            Ok(String::from_utf8(text).ok())
        }
    }
}

/// The side file: every key-value of `source`.
pub(super) fn side_file(source: &dyn ReadAt) -> Result<Vec<u8>> {
    let mut cursor = Cursor::new(source);
    let preamble = Preamble::read(&mut cursor)?;
    let mut out = Vec::new();
    write!(out, "{{\"version\":{},\"metadata\":{{", preamble.version)?;
    for i in 0..preamble.key_values {
        let (key, kind) = key(&mut cursor)?;
        out.extend_from_slice(if i == 0 { b"\n" } else { b",\n" });
        write_string(&mut out, key.as_bytes())?;
        out.push(b':');
        if kind == Kind::Array {
            write_value(&mut cursor, &key, kind, 0, &mut out)?;
        } else {
            let name = Kind::ALL.iter().find(|k| k.0 == kind).map_or("", |k| k.1);
            write!(out, "{{\"type\":\"{name}\",\"value\":")?;
            write_value(&mut cursor, &key, kind, 0, &mut out)?;
            out.push(b'}');
        }
    }
    out.extend_from_slice(b"\n}}\n");
    Ok(out)
}

/// Writes the value at the cursor as JSON.
fn write_value(
    cursor: &mut Cursor<'_>,
    key: &str,
    kind: Kind,
    depth: u32,
    out: &mut dyn Write,
) -> Result<()> {
    macro_rules! integer {
        ($t:ty) => {
            write!(out, "{}", <$t>::from_le_bytes(cursor.array(key)?))?
        };
    }
    macro_rules! float {
        ($t:ty) => {{
            let x = <$t>::from_le_bytes(cursor.array(key)?);
            if x.is_finite() {
                serde_json::to_writer(out, &x).map_err(std::io::Error::from)?;
            } else {
                write!(out, "{{\"bits\":\"{:0width$x}\"}}", x.to_bits(), width = size_of::<$t>() * 2)?;
            }
        }};
    }
    match kind {
        Kind::U8 => integer!(u8),
        Kind::I8 => integer!(i8),
        Kind::U16 => integer!(u16),
        Kind::I16 => integer!(i16),
        Kind::U32 => integer!(u32),
        Kind::I32 => integer!(i32),
        Kind::U64 => integer!(u64),
        Kind::I64 => integer!(i64),
        Kind::F32 => float!(f32),
        Kind::F64 => float!(f64),
        Kind::Bool => match cursor.array(key)? {
            [0] => out.write_all(b"false")?,
            [1] => out.write_all(b"true")?,
            [other] => return Err(Error::corruption(format!("{key}: a bool is 0 or 1, found {other}"))),
        },
        Kind::String => write_string(out, cursor.bytes(key)?)?,
        Kind::Array => write_array(cursor, key, depth, out)?,
    }
    Ok(())
}

fn write_array(cursor: &mut Cursor<'_>, key: &str, depth: u32, out: &mut dyn Write) -> Result<()> {
    if depth == MAX_DEPTH {
        return Err(Error::limit(format!("{key}: arrays nest deeper than {MAX_DEPTH}")));
    }
    let (kind, name, fewest) = Kind::read(cursor, key)?;
    let count = cursor.u64(key)?;
    cursor.expect(count.saturating_mul(fewest), key)?;
    write!(out, "{{\"type\":\"array\",\"items\":\"{name}\",\"value\":[")?;
    for i in 0..count {
        if i > 0 {
            out.write_all(b",")?;
        }
        write_value(cursor, key, kind, depth + 1, out)?;
    }
    out.write_all(b"]}")?;
    Ok(())
}

fn write_string(out: &mut dyn Write, bytes: &[u8]) -> Result<()> {
    if let Ok(text) = std::str::from_utf8(bytes) {
        serde_json::to_writer(out, text).map_err(std::io::Error::from)?;
        return Ok(());
    }
    out.write_all(b"{\"hex\":\"")?;
    for b in bytes {
        write!(out, "{b:02x}")?;
    }
    out.write_all(b"\"}")?;
    Ok(())
}
