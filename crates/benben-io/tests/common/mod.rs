//! Small files made by hand, and a source that remembers what was asked of it.
#![allow(dead_code, reason = "each test file uses its own part")]
#![allow(unreachable_pub, reason = "this is a module of several test programs")]
#![allow(clippy::disallowed_methods, reason = "fixtures need no atomic writes")]

use benben_format::{Dtype, ReadAt, Result};
use benben_io::safetensors::{TensorSpec, write};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};

pub fn put(folder: &Path, name: &str, bytes: impl AsRef<[u8]>) {
    let path = folder.join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, bytes).unwrap();
}

pub fn spec(name: &str, dtype: Dtype, shape: &[u64]) -> TensorSpec {
    TensorSpec { name: name.into(), dtype, shape: shape.into() }
}

/// Bytes of tensor `i` in the files made here: each tensor has its own byte.
pub fn body(i: usize, len: usize) -> Vec<u8> {
    vec![u8::try_from(i + 1).unwrap(); len]
}

pub fn bytes_of(spec: &TensorSpec) -> usize {
    usize::try_from(spec.shape.iter().product::<u64>()).unwrap() * spec.dtype.size()
}

pub fn safetensors(specs: &[TensorSpec]) -> Vec<u8> {
    let mut file = Vec::new();
    let metadata = BTreeMap::from([("format".to_owned(), "pt".to_owned())]);
    write(&mut file, specs, &metadata, |i| Ok(Cow::Owned(body(i, bytes_of(&specs[i]))))).unwrap();
    file
}

/// A safetensors file with this header as it is and `data` zeros.
pub fn with_header(json: &str, data: usize) -> Vec<u8> {
    [&(json.len() as u64).to_le_bytes(), json.as_bytes(), &vec![0; data]].concat()
}

pub fn small_safetensors() -> Vec<u8> {
    safetensors(&[
        spec("a", Dtype::F32, &[2, 3]),
        spec("b.weight", Dtype::BF16, &[4]),
        spec("empty", Dtype::F16, &[0, 9]),
        spec("scalar", Dtype::Bool, &[]),
    ])
}

/// Writes GGUF piece by piece.
pub struct GgufBuilder {
    key_values: Vec<u8>,
    keys: u64,
    infos: Vec<u8>,
    tensors: u64,
    data: Vec<u8>,
}

impl GgufBuilder {
    pub fn new() -> Self {
        Self { key_values: Vec::new(), keys: 0, infos: Vec::new(), tensors: 0, data: Vec::new() }
    }

    pub fn string(text: &[u8]) -> Vec<u8> {
        [&(text.len() as u64).to_le_bytes(), text].concat()
    }

    /// A key with a value of type `kind`, given by its bytes.
    pub fn key(mut self, key: &str, kind: u32, value: &[u8]) -> Self {
        self.key_values.extend([&Self::string(key.as_bytes()), &kind.to_le_bytes()[..], value].concat());
        self.keys += 1;
        self
    }

    pub fn tensor_at(mut self, name: &str, dims: &[u64], kind: u32, offset: u64) -> Self {
        self.infos.extend(Self::string(name.as_bytes()));
        self.infos.extend(u32::try_from(dims.len()).unwrap().to_le_bytes());
        dims.iter().for_each(|d| self.infos.extend(d.to_le_bytes()));
        self.infos.extend(kind.to_le_bytes());
        self.infos.extend(offset.to_le_bytes());
        self.tensors += 1;
        self
    }

    pub fn tensor(mut self, name: &str, dims: &[u64], kind: u32, bytes: &[u8]) -> Self {
        self.data.resize(self.data.len().next_multiple_of(32), 0);
        let offset = self.data.len() as u64;
        self.data.extend(bytes);
        self.tensor_at(name, dims, kind, offset)
    }

    pub fn build(&self) -> Vec<u8> {
        let counts = [self.tensors.to_le_bytes(), self.keys.to_le_bytes()].concat();
        let mut file = [b"GGUF\x03\0\0\0", &counts[..], &self.key_values, &self.infos].concat();
        file.resize(file.len().next_multiple_of(32), 0);
        file.extend(&self.data);
        file
    }
}

pub fn array(kind: u32, count: u64, values: &[u8]) -> Vec<u8> {
    [&kind.to_le_bytes()[..], &count.to_le_bytes(), values].concat()
}

/// Scalars, strings, arrays in arrays, stored, quantized, unread and empty tensors in about a kilobyte.
pub fn small_gguf() -> Vec<u8> {
    let string = GgufBuilder::string;
    let inner = array(0, 2, &[1, 2]);
    GgufBuilder::new()
        .key("general.architecture", 8, &string(b"llama"))
        .key("count", 4, &7u32.to_le_bytes())
        .key("yes", 7, &[1])
        .key("not finite", 6, &f32::NAN.to_le_bytes())
        .key("not text", 8, &string(&[0xc3, 0x28]))
        .key("words", 9, &array(8, 2, &[string(b"a"), string(b"\"b\"")].concat()))
        .key("nested", 9, &array(9, 2, &[inner.clone(), array(12, 0, &[])].concat()))
        .tensor("f32", &[3, 2], 0, &body(0, 24))
        .tensor("q8", &[64], 8, &body(1, 68))
        .tensor("q4k", &[256, 1], 12, &body(2, 144))
        .tensor("unread", &[256], 18, &body(3, 98))
        .tensor("later", &[5], 99, &body(4, 5))
        .tensor("empty", &[0, 7], 0, &[])
        .build()
}

/// A source that copies, and notes each range that it was asked for.
pub struct Noting {
    bytes: Vec<u8>,
    pub asked: Mutex<Vec<(u64, usize)>>,
}

impl Noting {
    pub fn new(bytes: Vec<u8>) -> Arc<Self> {
        Arc::new(Self { bytes, asked: Mutex::new(Vec::new()) })
    }
}

impl ReadAt for Noting {
    fn len(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn read_at(&self, offset: u64, len: usize) -> Result<Cow<'_, [u8]>> {
        self.asked.lock().unwrap().push((offset, len));
        Ok(Cow::Owned(self.bytes.read_at(offset, len)?.into_owned()))
    }
}
