//! The level database: tensors coded once for each level, kept in a folder, used for every target.
//!
//! A level is a pack of one tensor. Its file is named by a hash of all that decides its bytes: the values, the shape,
//! the method with its target, the seed, the statistics that the coder has of the tensor, and the version of the
//! program. So nothing must be kept in step: a level is there or it is not, an interrupted run goes on where it was, and
//! models that share tensors share levels. Losses that were measured by running a network lie beside them in one text.

use crate::coder::{Coded, Coder, Task};
use crate::method::Method;
use crate::pack::GENERATOR;
use benben_codec::Target;
use benben_decode::{Form, Pack, Resident};
use benben_format::{
    AtomicFile, Chunk, Dtype, EncodedLeaf, Error, Expr, LeafSource, Origin, Reader, Result, StoredLeaf,
    Writer, hex, layout,
};
use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// Raised whenever an encoder gives other bytes for the same task within one version of the program: older levels are
/// then not found.
const ENCODERS: u32 = 6;
/// Name of the one tensor of a level's pack.
const TENSOR: &str = "level";
/// Name of the text of measured losses.
const MEASURED: &str = "measured.txt";

/// One way to store one tensor, coded already.
#[derive(Debug, Clone, PartialEq)]
pub struct Level {
    /// The method with the target that it was given.
    pub method: Method,
    /// Bytes in a pack, its entries in the tables included.
    pub bytes: u64,
    /// Stored bits for each weight.
    pub bits_per_weight: f64,
    /// Squared error relative to the squared norm.
    pub relative_mse: f64,
    /// What the coder made small; see [`Coded::loss`].
    pub loss: f64,
    /// What the network is expected to lose, in nats; see [`Coded::cost`].
    pub cost: Option<f64>,
    /// Time that coding took, in seconds.
    pub seconds: f64,
    /// Names the level: 32 hexadecimal digits.
    pub key: String,
}

/// A folder of levels, and the coder that makes those that are missing. Itself a coder: what is there is not coded again.
pub struct Levels<'a> {
    folder: PathBuf,
    coder: &'a dyn Coder,
    measured: Mutex<BTreeMap<String, f64>>,
}

impl<'a> Levels<'a> {
    /// Opens the folder, which is made where it is not there.
    ///
    /// # Errors
    /// Io; Corruption where the text of measured losses is damaged.
    pub fn open(folder: &Path, coder: &'a dyn Coder) -> Result<Self> {
        let failed = |e: std::io::Error| Error::from(e).context(folder.display());
        std::fs::create_dir_all(folder).map_err(failed)?;
        let path = folder.join(MEASURED);
        let measured = match std::fs::read_to_string(&path) {
            Ok(text) => parse(&text).map_err(|e| e.context(path.display()))?,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => BTreeMap::new(),
            Err(e) => return Err(Error::from(e).context(path.display())),
        };
        Ok(Self { folder: folder.into(), coder, measured: Mutex::new(measured) })
    }

    /// The level that `task` asks for; coded where it is not there yet.
    ///
    /// # Errors
    /// As the coder; Corruption where the level is damaged; Io.
    pub fn level(&self, task: &Task<'_>) -> Result<Level> {
        let key = self.key(task);
        if !self.path(&key).exists() {
            self.make(task, &key)?;
        }
        self.look(task, &key).map_err(|e| self.explain(e, &key))
    }

    /// The expression of `level`, read and checked.
    ///
    /// # Errors
    /// Corruption where the level is damaged or gone; Io.
    pub fn expression(&self, level: &Level) -> Result<Expr<EncodedLeaf>> {
        self.read(&level.key).map_err(|e| self.explain(e, &level.key))
    }

    /// The tensor of `level` in memory, as codes.
    ///
    /// # Errors
    /// As [`Levels::expression`].
    pub fn resident(&self, level: &Level) -> Result<Resident> {
        let load = || Resident::load(&self.pack(&level.key)?.tensor(TENSOR)?, Form::Codes);
        load().map_err(|e| self.explain(e, &level.key))
    }

    /// The loss that was measured under the name `what`.
    #[must_use]
    pub fn measured(&self, what: &str) -> Option<f64> {
        self.measured.lock().unwrap_or_else(PoisonError::into_inner).get(what).copied()
    }

    /// Keeps a measured loss. `what` has no white space.
    ///
    /// # Errors
    /// InvalidArgument for a name with white space; Io.
    pub fn keep(&self, what: &str, loss: f64) -> Result<()> {
        if what.is_empty() || what.contains(char::is_whitespace) {
            return Err(Error::invalid(format!("{what:?} does not name a measurement")));
        }
        let mut measured = self.measured.lock().unwrap_or_else(PoisonError::into_inner);
        measured.insert(what.into(), loss);
        let mut file = AtomicFile::create(&self.folder.join(MEASURED), true)?;
        for (what, loss) in &*measured {
            writeln!(file, "{what} {loss:e} .")?;
        }
        file.commit()
    }

    /// Where the level called `key` lies.
    fn path(&self, key: &str) -> PathBuf {
        self.folder.join(format!("{key}.benben"))
    }

    fn pack(&self, key: &str) -> Result<Pack> {
        Pack::open(&self.path(key))
    }

    fn explain(&self, error: Error, key: &str) -> Error {
        let path = self.path(key);
        error.context(path.display()).with_hint("remove this file: the level is made again when it is needed")
    }

    /// A hash of all that decides the bytes of a level.
    fn key(&self, task: &Task<'_>) -> String {
        let mut hash = blake3::Hasher::new();
        let metric = self.coder.metric(task.name).map_or("none".into(), |m| hex(&m));
        let method = settled(task.method, task.target);
        let head = format!("{GENERATOR} {ENCODERS}\n{method}\n{:?}\n{}\n{metric}\n", task.shape, task.seed);
        hash.update(head.as_bytes());
        let mut bytes = Vec::with_capacity(1 << 16);
        for part in task.values.chunks(1 << 14) {
            bytes.clear();
            bytes.extend(part.iter().flat_map(|x| x.to_le_bytes()));
            hash.update(&bytes);
        }
        hex(&hash.finalize().as_bytes()[..16])
    }

    fn make(&self, task: &Task<'_>, key: &str) -> Result<()> {
        let started = Instant::now();
        let coded = self.coder.code(task)?;
        let seconds = started.elapsed().as_secs_f64();
        let mut file = AtomicFile::create(&self.path(key), true)?;
        let mut writer = Writer::new(&mut file, GENERATOR, 0)?;
        writer.metadata("key", key);
        for (name, value) in [
            ("bits_per_weight", coded.bits_per_weight),
            ("relative_mse", coded.relative_mse),
            ("loss", coded.loss),
            ("seconds", seconds),
        ] {
            writer.metadata(name, &format!("{value:e}"));
        }
        if let Some(cost) = coded.cost {
            writer.metadata("cost", &format!("{cost:e}"));
        }
        let origin = Origin {
            dtype: Dtype::F32.to_string(),
            bytes: 4 * task.values.len() as u64,
            relative_mse: Some(coded.relative_mse),
        };
        writer.tensor(TENSOR, Dtype::F32, task.shape, origin, coded.expr)?;
        writer.finish_in_place()?;
        file.commit()
    }

    /// What the index of a level says.
    fn look(&self, task: &Task<'_>, key: &str) -> Result<Level> {
        let pack = self.pack(key)?;
        let (reader, tensor) = (pack.reader(), pack.tensor(TENSOR)?);
        let metadata = &reader.directory().metadata;
        if metadata.get("key").map(String::as_str) != Some(key) || tensor.shape() != task.shape {
            return Err(Error::corruption("another level lies under this name"));
        }
        let number = |name: &str| {
            let value = metadata.get(name).and_then(|text| text.parse::<f64>().ok());
            value.filter(|v| v.is_finite() && *v >= 0.0).ok_or_else(|| {
                Error::corruption(format!("expected a number {name}, found {:?}", metadata.get(name)))
            })
        };
        Ok(Level {
            method: settled(task.method, task.target),
            bytes: tensor.entry().expr.leaves().iter().map(|leaf| stored_bytes(reader, leaf)).sum(),
            bits_per_weight: number("bits_per_weight")?,
            relative_mse: number("relative_mse")?,
            loss: number("loss")?,
            cost: metadata.contains_key("cost").then(|| number("cost")).transpose()?,
            seconds: number("seconds")?,
            key: key.into(),
        })
    }

    fn read(&self, key: &str) -> Result<Expr<EncodedLeaf>> {
        let pack = self.pack(key)?;
        let expr = pack.tensor(TENSOR)?.entry().expr.clone();
        expr.try_map(&mut |leaf| copy(pack.reader(), &leaf))
    }
}

impl Coder for Levels<'_> {
    fn code(&self, task: &Task<'_>) -> Result<Coded> {
        let level = self.level(task)?;
        let (bits_per_weight, relative_mse, loss) = (level.bits_per_weight, level.relative_mse, level.loss);
        Ok(Coded { expr: self.expression(&level)?, bits_per_weight, relative_mse, loss, cost: level.cost })
    }

    fn promising(&self, task: &Task<'_>, coded: &Expr<EncodedLeaf>, ranks: &[u16]) -> Result<Vec<u16>> {
        self.coder.promising(task, coded, ranks)
    }

    fn metric(&self, name: &str) -> Option<[u8; 32]> {
        self.coder.metric(name)
    }

    fn calibration(&self) -> Option<String> {
        self.coder.calibration()
    }
}

/// `method` with `target` as its own.
pub(crate) fn settled(method: &Method, target: Target) -> Method {
    let (bpw, mse) = match target {
        Target::BitsPerWeight(b) => (Some(b), None),
        Target::RelativeMse(m) => (None, Some(m)),
    };
    Method { bpw, mse, ..*method }
}

/// As [`EncodedLeaf::stored_bytes`], from the index alone.
fn stored_bytes(reader: &Reader, leaf: &StoredLeaf) -> u64 {
    let chunks: u64 = leaf.spec.streams.iter().map(benben_format::StreamSpec::chunks).sum();
    reader.segment(leaf).len + chunks * layout::CHUNK_ENTRY as u64 + layout::SEGMENT_ENTRY as u64
}

/// The leaf as an encoder made it, every chunk checked.
fn copy(reader: &Reader, leaf: &StoredLeaf) -> Result<EncodedLeaf> {
    let source = reader.leaf(leaf);
    let stream = |(i, spec): (usize, &benben_format::StreamSpec)| {
        let chunk = |c| source.chunk(i, c).map(|c| Chunk::new(c.mode, c.bytes.into_owned()));
        (0..spec.chunks()).map(chunk).collect::<Result<Vec<_>>>()
    };
    let chunks = leaf.spec.streams.iter().enumerate().map(stream).collect::<Result<_>>()?;
    Ok(EncodedLeaf { spec: leaf.spec.clone(), chunks })
}

/// Lines `what loss .`; the dot shows that a line is whole.
fn parse(text: &str) -> Result<BTreeMap<String, f64>> {
    let line = |(i, line): (usize, &str)| {
        let parts: Vec<&str> = line.split(' ').collect();
        let [what, loss, "."] = parts[..] else {
            return Err(Error::corruption(format!("line {}: expected a name, a loss and a dot", i + 1)));
        };
        let loss = loss.parse::<f64>().map_err(|e| Error::corruption(format!("line {}: {e}", i + 1)))?;
        Ok((what.to_owned(), loss))
    };
    text.lines().enumerate().map(line).collect()
}

#[cfg(test)]
#[path = "levels_tests.rs"]
mod tests;
