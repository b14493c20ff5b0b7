//! What a file is, by its first bytes; the name decides only how a broken file is explained.

use benben_format::{Error, Result, layout};

/// Formats that have a reader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    Safetensors,
    ShardIndex,
    Gguf,
}

/// Bytes that [`detect`] wants to see.
pub(crate) const HEAD: usize = 512;

/// Longest header of a safetensors file that the reference implementation accepts.
pub(crate) const MAX_SAFETENSORS_HEADER: u64 = 100_000_000;

const EXPECTED: &str = "expected a .safetensors file, a model.safetensors.index.json, a .gguf file, \
                        or a folder with one of them";

/// The format of a file called `name` that starts with `head`.
pub(crate) fn detect(name: &str, head: &[u8]) -> Result<Format> {
    if head.is_empty() {
        return Err(Error::insufficient(format!("the file is empty; {EXPECTED}"))
            .with_hint("the download may have failed: fetch the file again"));
    }
    refuse_lfs_pointer(head)?;
    if head.starts_with(b"GGUF") {
        return Ok(Format::Gguf);
    }
    if looks_like_safetensors(head) {
        return Ok(Format::Safetensors);
    }
    if let Some((what, hint)) = known_but_unread(name, head) {
        return Err(Error::unsupported(format!("this is {what}; {EXPECTED}")).with_hint(hint));
    }
    if head.trim_ascii_start().starts_with(b"{") {
        return Ok(Format::ShardIndex);
    }
    // Nothing known: the reader that the name asks for explains best what is wrong.
    match name.rsplit_once('.') {
        Some((_, "safetensors")) => Ok(Format::Safetensors),
        Some((_, "gguf")) => Ok(Format::Gguf),
        _ => Err(Error::unsupported(format!("{EXPECTED}; found a file that starts with {}", hex(head)))
            .with_hint("convert the model to safetensors with the framework that wrote it")),
    }
}

/// Refuses the text that git leaves in place of a large file.
pub(crate) fn refuse_lfs_pointer(head: &[u8]) -> Result<()> {
    if !head.starts_with(b"version https://git-lfs.github.com/spec/") {
        return Ok(());
    }
    let size = head
        .split(|&b| b == b'\n')
        .find_map(|line| std::str::from_utf8(line).ok()?.strip_prefix("size ")?.trim().parse::<u64>().ok());
    let size = size.map_or(String::new(), |n| format!(" of {n} bytes"));
    Err(Error::insufficient(format!("this is a git-lfs pointer, not the file{size} that it stands for"))
        .with_hint("fetch the real file with `git lfs pull`, or download it from the model's page"))
}

fn looks_like_safetensors(head: &[u8]) -> bool {
    head.split_first_chunk().is_some_and(|(length, json)| {
        json.starts_with(b"{") && u64::from_le_bytes(*length) <= MAX_SAFETENSORS_HEADER
    })
}

/// Formats of others that are recognized in order to be refused with good advice.
fn known_but_unread(name: &str, head: &[u8]) -> Option<(&'static str, &'static str)> {
    const TORCH: &str = "convert it in Python: safetensors.torch.save_file(torch.load(file, weights_only=True), \
                         \"model.safetensors\")";
    const CONVERT: &str = "convert the model to safetensors with the framework that wrote it";
    let contains = |needle: &[u8]| head.windows(needle.len()).any(|w| w == needle);
    Some(match head {
        [b'P', b'K', 3, 4, ..] if contains(b".npy") => ("a NumPy .npz archive", CONVERT),
        [b'P', b'K', 3, 4, ..] if contains(b"data.pkl") => {
            ("a PyTorch checkpoint (zip with a pickle)", TORCH)
        }
        [b'P', b'K', 3, 4, ..] => ("a zip archive, maybe a PyTorch checkpoint", TORCH),
        [0x80, 2..=5, ..] => ("a Python pickle, as of PyTorch", TORCH),
        [b't' | b'f' | b'l', b'j' | b'm', b'g', b'g', ..] => (
            "a GGML file from before GGUF",
            "convert the original model again with llama.cpp's convert_hf_to_gguf.py",
        ),
        [_, _, _, _, b'T', b'F', b'L', b'3', ..] => ("a TensorFlow Lite model", CONVERT),
        [0x93, b'N', b'U', b'M', b'P', b'Y', ..] => ("a NumPy .npy array", CONVERT),
        _ if head.starts_with(b"\x89HDF\r\n\x1a\n") => ("an HDF5 file, as of Keras", CONVERT),
        _ if head.starts_with(&layout::MAGIC) => {
            ("a Benben pack already", "`benben unpack` gives the tensors back as safetensors")
        }
        _ if is_html(head) => (
            "a web page, not a model",
            "the download link leads to a page: use the link of the file itself, and log in if it asks for it",
        ),
        // ONNX is protobuf without a magic: field 1 (ir_version, small), then a length-delimited field.
        [0x08, 1..=32, 0x12 | 0x1a | 0x22 | 0x32 | 0x3a | 0x42, ..] => {
            ("an ONNX model", "export the model's weights to safetensors instead")
        }
        _ if name.ends_with(".onnx") => {
            ("an ONNX model", "export the model's weights to safetensors instead")
        }
        _ => return None,
    })
}

fn is_html(head: &[u8]) -> bool {
    let text = head.trim_ascii_start().to_ascii_lowercase();
    text.starts_with(b"<!doctype html") || text.starts_with(b"<html")
}

/// The first eight bytes for a message.
pub(crate) fn hex(head: &[u8]) -> String {
    head.iter().take(8).map(|b| format!("{b:02x}")).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use benben_format::ErrorKind;

    #[test]
    fn content_decides_whatever_the_name_says() {
        assert_eq!(detect("a.bin", b"GGUF\x03\0\0\0").unwrap(), Format::Gguf);
        assert_eq!(detect("a.gguf", b"\x02\0\0\0\0\0\0\0{}").unwrap(), Format::Safetensors);
        assert_eq!(detect("a", b" {\"weight_map\":{}}").unwrap(), Format::ShardIndex);
    }

    #[test]
    fn formats_without_a_reader_are_named_and_refused_with_a_hint() {
        let cases: [(&[u8], &str); 10] = [
            (b"PK\x03\x04archive/data.pkl", "PyTorch"),
            (b"PK\x03\x04w.npy", "npz"),
            (b"\x80\x02}q\0", "pickle"),
            (b"tjgg\x01\0\0\0", "GGML"),
            (b"\x1c\0\0\0TFL3", "TensorFlow Lite"),
            (b"\x93NUMPY\x01\0", "npy"),
            (b"\x89HDF\r\n\x1a\n", "HDF5"),
            (b"\x08\x08\x12\x07pytorch", "ONNX"),
            (b"\n<!DOCTYPE html>", "web page"),
            (&layout::MAGIC, "Benben pack"),
        ];
        for (head, what) in cases {
            let e = detect("model.bin", head).unwrap_err();
            assert_eq!(e.kind(), ErrorKind::Unsupported, "{e}");
            assert!(e.message().contains(what) && e.hint().is_some(), "{what}: {e}");
        }
    }

    #[test]
    fn unknown_bytes_are_shown() {
        let e = detect("model.bin", &[0xde, 0xad, 0xbe, 0xef, 1, 2, 3, 4, 5]).unwrap_err();
        assert!(e.message().contains("de ad be ef 01 02 03 04"), "{e}");
        assert_eq!(detect("a", b"").unwrap_err().kind(), ErrorKind::InsufficientData);
    }

    #[test]
    fn an_lfs_pointer_is_called_by_its_name() {
        let text = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 90868376\n";
        let e = detect("model.safetensors", text).unwrap_err();
        assert!(e.message().contains("git-lfs pointer") && e.message().contains("90868376"), "{e}");
    }
}
