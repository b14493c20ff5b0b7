//! Packs whose container is wrong: header, index, directory, trailer. All are refused when they are opened.

use super::good::front_index;
use super::leaves::{floats, raw_bytes};
use super::patch::{Parts, put, seal_header, u64_at};
use super::{MustFail, pack, pack_with};
use benben::{Dtype, Error, Result};
use benben_format::Expr;
use ciborium::{Value, cbor};

const CORRUPTION: &str = "Corruption";
const COMPATIBILITY: &str = "Compatibility";
const INSUFFICIENT: &str = "InsufficientData";
const LIMIT: &str = "Limit";

/// A pack of two tensors and a file: `t`, `u`.
fn sample() -> Result<Vec<u8>> {
    let values: Vec<f32> = (0..12).map(|i| i as f32).collect();
    let t = ("t", Dtype::F32, &[3, 4][..], Expr::Leaf(floats(&[3, 4], &values)?));
    let u = ("u", Dtype::U8, &[5][..], Expr::Leaf(raw_bytes(Dtype::U8, &[5], &[1, 2, 3, 4, 5])?));
    let file = raw_bytes(Dtype::U8, &[2], b"{}")?;
    pack_with(0, |writer| writer.file("config.json", file), [t, u])
}

/// Cases that damage the bytes of a good pack.
fn damaged() -> Result<Vec<MustFail>> {
    let good = sample()?;
    let copied = front_index()?;
    let index = u64_at(&good, good.len() - 64) as usize;
    let change = |edit: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = good.clone();
        edit(&mut bytes);
        bytes
    };
    let sealed = |edit: &dyn Fn(&mut Vec<u8>)| {
        change(&|b| {
            edit(b);
            seal_header(b);
        })
    };
    let case = |name, kind, why, bytes| MustFail { name, kind, when: "open", why, bytes };
    let text: Vec<u8> = good.iter().enumerate().filter(|(i, _)| *i != 4).map(|b| *b.1).collect();
    let mut piped = good.clone();
    put(&mut piped, 40, 0);
    seal_header(&mut piped);
    piped.truncate(good.len() - 10);
    Ok(vec![
        case("no-bytes", INSUFFICIENT, "there are no bytes", Vec::new()),
        case(
            "not-a-pack",
            "InvalidArgument",
            "another kind of file",
            b"{\"model\": \"not a pack at all\"}".to_vec(),
        ),
        case("header-cut", INSUFFICIENT, "30 bytes of a pack", good[..30].to_vec()),
        case("cut", INSUFFICIENT, "20 bytes are missing at the end", good[..good.len() - 20].to_vec()),
        case(
            "cut-with-copy",
            INSUFFICIENT,
            "the end is missing from the middle of a segment on",
            copied[..800].to_vec(),
        ),
        case("cut-piped", INSUFFICIENT, "no end, and no length in the header", piped),
        case("text-mode", CORRUPTION, "sent as text: carriage returns are gone", text),
        case("header-flipped", CORRUPTION, "a bit of the header is flipped", change(&|b| b[26] ^= 1)),
        case("major-2", COMPATIBILITY, "container version 2", sealed(&|b| b[8] = 2)),
        case(
            "critical-feature",
            COMPATIBILITY,
            "a critical feature that is not known",
            sealed(&|b| b[20] = 1),
        ),
        case("header-size", CORRUPTION, "a header of 128 bytes", sealed(&|b| b[12] = 128)),
        case(
            "segments-unaligned",
            CORRUPTION,
            "segments_offset is not a multiple of 256",
            sealed(&|b| put(b, 24, 264)),
        ),
        case(
            "copy-too-long",
            CORRUPTION,
            "the copy of the index reaches into the segments",
            sealed(&|b| put(b, 32, 193)),
        ),
        case("bytes-after", CORRUPTION, "bytes follow the end", change(&|b| b.extend_from_slice(b"more"))),
        case("index-flipped", CORRUPTION, "a bit of the index is flipped", change(&|b| b[index + 45] ^= 16)),
        case(
            "root-flipped",
            CORRUPTION,
            "a bit of the root is flipped",
            change(&|b| *b.iter_mut().nth_back(40).unwrap_or(&mut 0) ^= 1),
        ),
        case(
            "end-magic",
            INSUFFICIENT,
            "the last bytes are zeros",
            change(&|b| b.iter_mut().rev().take(8).for_each(|b| *b = 0)),
        ),
        case(
            "trailer-length",
            CORRUPTION,
            "the trailer says another length",
            change(&|b| {
                let at = b.len() - 16;
                b[at] ^= 1;
            }),
        ),
        case(
            "index-before-segments",
            CORRUPTION,
            "the index begins before the segments",
            sealed(&|b| put(b, 24, 4096)),
        ),
    ])
}

/// Adds tensor `name`, f32 of shape [3, 4], which refers to tensor `target`.
fn add(parts: &mut Parts, name: &str, target: &str) -> Result<()> {
    let entry = cbor!({
        "name" => name,
        "dtype" => "f32",
        "shape" => [3, 4],
        "origin" => {"type" => "F32", "bytes" => 48},
        "expr" => {"node" => "ref", "dtype" => "f32", "shape" => [3, 4], "params" => {"tensor" => target}},
    });
    parts.append(&["tensors"], entry.map_err(|e| Error::invalid(e.to_string()))?)
}

/// Cases in which every checksum fits and a field is wrong.
fn fields() -> Result<Vec<MustFail>> {
    let good = sample()?;
    let case = |name, kind, why, edit: &dyn Fn(&mut Parts) -> Result<()>| -> Result<MustFail> {
        let mut parts = Parts::of(&good)?;
        edit(&mut parts)?;
        Ok(MustFail { name, kind, when: "open", why, bytes: parts.build()? })
    };
    // The directory lists config.json (segment 0), t (1) and u (2).
    let t = &["tensors", "0"][..];
    let expr = &["tensors", "0", "expr"][..];
    let streams = &["tensors", "0", "expr", "streams", "0"][..];
    Ok(vec![
        case("segments-overlap", CORRUPTION, "segment 1 begins within segment 0", &|p| {
            put(&mut p.segments, 48, 0);
            Ok(())
        })?,
        case("segments-apart", CORRUPTION, "256 bytes between two segments", &|p| {
            put(&mut p.segments, 48, 258);
            Ok(())
        })?,
        case("segment-past-index", CORRUPTION, "the last segment reaches into the index", &|p| {
            put(&mut p.segments, 2 * 48 + 8, 500);
            Ok(())
        })?,
        case("segment-twice", CORRUPTION, "two leaves own segment 1", &|p| {
            p.set(&["tensors", "1", "expr"], "segment", 1)
        })?,
        case("segment-missing", CORRUPTION, "a leaf owns a segment that is not there", &|p| {
            p.set(expr, "segment", 9)
        })?,
        case("segment-unowned", CORRUPTION, "no leaf owns segment 0", &|p| {
            p.set(&[], "files", Value::Array(vec![]))
        })?,
        case("chunk-gap", CORRUPTION, "a chunk does not begin where the one before ends", &|p| {
            p.chunks[16] = 1;
            Ok(())
        })?,
        case("chunk-length", CORRUPTION, "chunks are longer than their segment", &|p| {
            p.chunks[8] = 3;
            Ok(())
        })?,
        case("chunk-unowned", CORRUPTION, "the table has a chunk too many", &|p| {
            p.chunks.extend_from_slice(&[0; 16]);
            Ok(())
        })?,
        case("chunk-missing", CORRUPTION, "a stream of more chunks than the table has", &|p| {
            p.set(streams, "1", 1u64 << 40)
        })?,
        case("chunk-items-0", CORRUPTION, "chunks of no items", &|p| p.set(streams, "2", 0))?,
        case("chunk-items-2m", CORRUPTION, "chunks of 2^21 items", &|p| p.set(streams, "2", 1 << 21))?,
        case("stream-kind", COMPATIBILITY, "a kind of stream that is not known", &|p| {
            p.set(streams, "0", 25)
        })?,
        case("name-twice", CORRUPTION, "two tensors of one name", &|p| {
            p.set(&["tensors", "1"], "name", "t")
        })?,
        case("name-empty", LIMIT, "a tensor without a name", &|p| p.set(t, "name", ""))?,
        case("name-missing", CORRUPTION, "a tensor whose name is a number", &|p| p.set(t, "name", 3))?,
        case("file-outside", CORRUPTION, "a file that leaves its folder", &|p| {
            p.set(&["files", "0"], "name", "../config.json")
        })?,
        case("file-absolute", CORRUPTION, "a file of an absolute path", &|p| {
            p.set(&["files", "0"], "name", "/etc/config.json")
        })?,
        case("file-not-raw", CORRUPTION, "a file that a quantizer stores", &|p| {
            p.set(&["files", "0", "leaf"], "node", "scalar")
        })?,
        case("file-not-u8", CORRUPTION, "a file of signed bytes", &|p| {
            p.set(&["files", "0", "leaf"], "dtype", "i8")
        })?,
        case("file-twice", CORRUPTION, "two files of one name", &|p| p.repeat(&["files"], 1))?,
        case("dtype-unknown", COMPATIBILITY, "a dtype that is not known", &|p| p.set(t, "dtype", "f4"))?,
        case("nodes-257", LIMIT, "a sum of 256 terms", &|p| {
            add(p, "v", "t")?;
            p.wrap(&["tensors", "2", "expr"], "sum")?;
            p.repeat(&["tensors", "2", "expr", "of"], 255)
        })?,
        case("ref-missing", CORRUPTION, "a reference to a tensor that is not there", &|p| add(p, "v", "x"))?,
        case("ref-itself", CORRUPTION, "a reference to itself", &|p| add(p, "v", "v"))?,
        case("ref-cycle", CORRUPTION, "two references to each other", &|p| {
            add(p, "v", "w")?;
            add(p, "w", "v")
        })?,
        case("ref-chain", CORRUPTION, "a reference to a reference", &|p| {
            add(p, "v", "t")?;
            add(p, "w", "v")
        })?,
        case("ref-shape", CORRUPTION, "a reference of another shape", &|p| add(p, "v", "u"))?,
        case("sum-params", CORRUPTION, "a sum with parameters", &|p| {
            p.wrap(expr, "sum")?;
            p.set(expr, "params", Value::Map(vec![]))
        })?,
        case("sum-empty", CORRUPTION, "a sum of no terms", &|p| {
            add(p, "v", "t")?;
            p.set(&["tensors", "2"], "expr", Value::Map(vec![("node".into(), "sum".into())]))
        })?,
        case("ref-operand", CORRUPTION, "a reference with an operand", &|p| {
            add(p, "v", "t")?;
            let operand = p.at(&["tensors", "2", "expr"])?.clone();
            p.set(&["tensors", "2", "expr"], "of", Value::Array(vec![operand]))
        })?,
        case("sparse-group-3", CORRUPTION, "a group of three sides", &|p| {
            add(p, "v", "t")?;
            let v = &["tensors", "2", "expr"][..];
            let operand = p.at(v)?.clone();
            p.set(v, "node", "sparse")?;
            let group = Value::Array(vec![1.into(); 3]);
            p.set(v, "params", Value::Map(vec![("group".into(), group)]))?;
            p.set(v, "of", Value::Array(vec![operand; 2]))
        })?,
        case("inner-streams", CORRUPTION, "a node that is no leaf with a list of streams", &|p| {
            p.wrap(expr, "sum")?;
            p.set(expr, "streams", Value::Array(vec![]))
        })?,
        case("inner-chunk", CORRUPTION, "a node that is no leaf with a null for a chunk", &|p| {
            p.wrap(expr, "sum")?;
            p.set(expr, "chunk", Value::Null)
        })?,
        case("inner-segment", CORRUPTION, "a node that is no leaf with a null for a segment", &|p| {
            p.wrap(expr, "sum")?;
            p.set(expr, "segment", Value::Null)
        })?,
        case("leaf-operands", CORRUPTION, "a leaf with a list of operands", &|p| {
            p.set(expr, "of", Value::Array(vec![]))
        })?,
        case("stream-4", CORRUPTION, "a stream of four integers", &|p| p.append(streams, 0.into()))?,
        case("recipe-null", CORRUPTION, "a null for a recipe", &|p| p.set(&[], "recipe", Value::Null))?,
        case("error-null", CORRUPTION, "a null for a relative_mse", &|p| {
            p.set(&["tensors", "0", "origin"], "relative_mse", Value::Null)
        })?,
        case("shape-bytes", CORRUPTION, "a byte string for a shape", &|p| {
            p.set(expr, "shape", Value::Bytes(vec![3, 4]))
        })?,
        case("metadata-twice", CORRUPTION, "a key of the metadata that occurs twice", &|p| {
            let pair = |value: &str| ("license".into(), value.into());
            p.set(&[], "metadata", Value::Map(vec![pair("none"), pair("any")]))
        })?,
        case("nested-17", LIMIT, "a leaf under 16 nodes", &|p| {
            for _ in 0..16 {
                p.wrap(expr, "sum")?;
            }
            Ok(())
        })?,
    ])
}

/// Two leaves of the same bytes and the same chunk entry: but for that, nothing is wrong.
fn shared() -> Result<MustFail> {
    let leaf = || Ok::<_, Error>(Expr::Leaf(raw_bytes(Dtype::U8, &[5], &[1, 2, 3, 4, 5])?));
    let mut parts =
        Parts::of(&pack([("t", Dtype::U8, &[5][..], leaf()?), ("u", Dtype::U8, &[5][..], leaf()?)])?)?;
    parts.set(&["tensors", "1", "expr"], "chunk", 0)?;
    let why = "two leaves own the same chunk entries";
    Ok(MustFail { name: "chunks-shared", kind: CORRUPTION, when: "open", why, bytes: parts.build()? })
}

/// Cases in which the directory as it is stored is wrong.
fn directories() -> Result<Vec<MustFail>> {
    let parts = Parts::of(&pack([])?)?;
    let plain = b"\xa2\x69generator\x61x\x67tensors\x80".to_vec();
    let len = plain.len() as u64;
    let frame = zstd::bulk::compress(&plain, 3)?;
    let bomb = zstd::bulk::compress(&vec![0; 16 << 20], 3)?;
    let longer = [&plain[..], b"\x00"].concat();
    let case = |name, kind, why, index: Vec<u8>| MustFail {
        name,
        kind,
        when: "open",
        why,
        bytes: parts.build_around(&index),
    };
    // A key that nobody knows, with `value`.
    let later = |value: &[u8]| {
        let directory = [b"\xa3", &plain[1..], b"\x65later", value].concat();
        parts.index_of(&directory, directory.len() as u64, 0)
    };
    let mut counted = parts.index_of(&plain, len, 0);
    counted[32] = 1;
    let mut segment = parts.index_of(&plain, len, 0);
    put(&mut segment, 24, u64::MAX / 48 + 2);
    Ok(vec![
        case(
            "directory-coding",
            COMPATIBILITY,
            "a coding of the directory that is not known",
            parts.index_of(&plain, len, 2),
        ),
        case(
            "directory-claims-much",
            LIMIT,
            "the directory claims 2^40 bytes",
            parts.index_of(&frame, 1 << 40, 1),
        ),
        case(
            "directory-claims-more",
            CORRUPTION,
            "the frame is shorter than it should be",
            parts.index_of(&frame, 200 << 20, 1),
        ),
        case("directory-bomb", CORRUPTION, "the frame goes on for 16 MiB", parts.index_of(&bomb, 1000, 1)),
        case("directory-garbage", CORRUPTION, "no zstd frame", parts.index_of(&plain, len, 1)),
        case("directory-cut", CORRUPTION, "the CBOR ends early", parts.index_of(&plain[..20], 20, 0)),
        case("cbor-simple", CORRUPTION, "false in two bytes", later(b"\xf8\x14")),
        case("cbor-text", CORRUPTION, "text in parts within text in parts", later(b"\x7f\x7f\x61a\xff\xff")),
        case("directory-longer", CORRUPTION, "a byte after the CBOR", parts.index_of(&longer, len + 1, 0)),
        case(
            "directory-deep",
            CORRUPTION,
            "a thousand arrays in each other",
            parts.index_of(&[0x81; 1000], 1000, 0),
        ),
        case(
            "index-short",
            CORRUPTION,
            "an index of 39 bytes",
            parts.index_of(&plain, len, 0)[..39].to_vec(),
        ),
        case("chunk-count", CORRUPTION, "a chunk table shorter than its count", counted),
        case("segment-count", CORRUPTION, "a number of segments that wraps around", segment),
    ])
}

/// Every case.
pub(crate) fn packs() -> Result<Vec<MustFail>> {
    Ok([damaged()?, fields()?, vec![shared()?], directories()?].into_iter().flatten().collect())
}
