//! A calibration that is open: statistics of a layer are read when they are asked for.

use super::file::{About, FORMAT, HASHES, Layout, Part, StageEntry};
use super::moment::Moment;
use benben_format::{AtomicFile, Dtype, Error, Result, Source, in_memory};
use benben_io::ModelSource;
use benben_io::safetensors::SafeTensors;
use benben_models::Network;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// What one linear layer's input and output are like.
#[derive(Debug, Clone)]
pub struct Layer {
    /// E[x xᵀ] of the input. Layers with one input share it, as long as one of them is in memory.
    pub second_moment: Arc<Moment>,
    /// The mean of x.
    pub mean: Arc<[f32]>,
    /// E|x|.
    pub absolute: Arc<[f32]>,
    /// Importance of each output row, scaled to mean 1; none: all alike.
    pub rows: Option<Arc<[f32]>>,
    /// What the importances were divided by, comparable across layers where all have some; 1 where there are none.
    pub rows_mean: f64,
}

/// Statistics of the linear layers of a model.
pub struct Calibration {
    file: SafeTensors,
    layout: Layout,
    /// Vectors of each stage.
    counts: Vec<u64>,
    hashes: Vec<u8>,
    /// Stage of each tensor.
    stage_of: BTreeMap<String, usize>,
    /// Importances that are not in the file.
    rows: BTreeMap<String, Arc<[f32]>>,
    shared: Mutex<BTreeMap<usize, Weak<Moment>>>,
}

impl std::fmt::Debug for Calibration {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Calibration").field("layout", &self.layout).finish_non_exhaustive()
    }
}

impl Calibration {
    /// Opens the file at `path`; nothing but its head is read.
    ///
    /// # Errors
    /// InvalidArgument for a file that holds no calibration; Corruption and InsufficientData for one that is damaged.
    pub fn open(path: &Path) -> Result<Self> {
        Self::from_source(benben_format::open(path)?).map_err(|e| e.context(path.display()))
    }

    /// The calibration in `source`.
    ///
    /// # Errors
    /// As [`Calibration::open`].
    pub fn from_source(source: Source) -> Result<Self> {
        let file = SafeTensors::new(source)?;
        let metadata = file.metadata();
        match metadata.get("format").map(String::as_str) {
            Some(FORMAT) => {}
            Some(other) if other.starts_with("benben calibration ") => {
                return Err(Error::compatibility(format!("{other:?}: this build reads {FORMAT:?}")));
            }
            _ => {
                return Err(Error::invalid("this safetensors file is no calibration")
                    .with_hint("`benben calibrate` makes one"));
            }
        }
        let layout = layout(&file)?;
        let parts = layout.parts()?;
        check(&file, &parts)?;
        let mut stage_of = BTreeMap::new();
        for (i, stage) in layout.stages.iter().enumerate() {
            for name in &stage.names {
                if stage_of.insert(name.clone(), i).is_some() {
                    return Err(Error::corruption("two stages hold this tensor").in_tensor(name));
                }
            }
        }
        let mut open = Self {
            hashes: bytes(&file, HASHES)?.into_owned(),
            file,
            layout,
            counts: Vec::new(),
            stage_of,
            rows: BTreeMap::new(),
            shared: Mutex::default(),
        };
        let counts = open.part(&Part::Counts)?;
        let words = counts.as_chunks::<8>().0.iter().map(|w| u64::from_le_bytes(*w));
        open.counts = words.collect();
        Ok(open)
    }

    /// What it is of.
    #[must_use]
    pub fn about(&self) -> &About {
        &self.layout.about
    }

    /// Refuses a calibration of another model.
    ///
    /// # Errors
    /// InvalidArgument, saying what both are.
    pub fn check_model(&self, identity: &[u8; 32]) -> Result<()> {
        let (found, asked) = (&self.layout.about.model, benben_format::hex(identity));
        if *found == asked {
            return Ok(());
        }
        let short = |hash: &str| hash.chars().take(12).collect::<String>();
        Err(Error::invalid(format!(
            "the calibration is of model {}, not of this one, {}",
            short(found),
            short(&asked)
        ))
        .with_hint("`benben calibrate` makes one of this model"))
    }

    /// Refuses a calibration whose layers are not those of `network`.
    ///
    /// # Errors
    /// InvalidArgument, naming the first that differs.
    pub fn check_network(&self, network: &dyn Network) -> Result<()> {
        let stages = network.stages();
        for (i, stage) in stages.iter().enumerate() {
            let same = |own: &StageEntry| {
                (own.block, own.columns, &own.names) == (stage.block, stage.columns, &stage.names)
            };
            if !self.layout.stages.get(i).is_some_and(same) {
                let name = stage.names.first().map_or("", String::as_str);
                return Err(
                    Error::invalid("the calibration is of a network without this layer").in_tensor(name)
                );
            }
        }
        if self.layout.stages.len() > stages.len() {
            return Err(Error::invalid("the calibration is of a network with more layers"));
        }
        Ok(())
    }

    /// Names of the tensors that there are statistics of, stage after stage.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.layout.stages.iter().flat_map(|s| &s.names).map(String::as_str)
    }

    /// Whether there are statistics of the tensor `name`.
    #[must_use]
    pub fn contains(&self, name: &str) -> bool {
        self.stage_of.contains_key(name)
    }

    /// Columns of the tensor `name`, and the vectors that its input was seen in; nothing is read.
    #[must_use]
    pub fn size(&self, name: &str) -> Option<(usize, u64)> {
        let stage = *self.stage_of.get(name)?;
        Some((self.layout.stages[stage].columns, self.counts[stage]))
    }

    /// Statistics of the linear layer whose weights are called `name`; none where it is no linear layer, or its input
    /// was never seen. Read from the file, but for a second moment that is still in memory.
    ///
    /// # Errors
    /// Corruption where the file is damaged, naming the tensor; Io.
    pub fn layer(&self, name: &str) -> Result<Option<Layer>> {
        let Some(&stage) = self.stage_of.get(name) else { return Ok(None) };
        if self.counts[stage] == 0 {
            return Ok(None);
        }
        let (rows, rows_mean) = match self.rows(name)? {
            Some(rows) => scaled(&rows).map(|(rows, mean)| (Some(rows), mean)).unwrap_or((None, 1.0)),
            None => (None, 1.0),
        };
        Ok(Some(Layer {
            second_moment: self.moment(stage)?,
            mean: self.floats(&Part::Mean(stage))?.into(),
            absolute: self.floats(&Part::Absolute(stage))?.into(),
            rows,
            rows_mean,
        }))
    }

    /// Importance of each output row of the tensor `name`, as it was measured; none: not known.
    ///
    /// # Errors
    /// Corruption where the file is damaged; Io.
    pub fn rows(&self, name: &str) -> Result<Option<Arc<[f32]>>> {
        if let Some(rows) = self.rows.get(name) {
            return Ok(Some(Arc::clone(rows)));
        }
        if !self.layout.rows.iter().any(|(own, _)| own == name) {
            return Ok(None);
        }
        let rows = self.floats(&Part::Rows(name.to_owned()))?;
        self.usable(name, &rows)?;
        Ok(Some(rows.into()))
    }

    /// Says how much each output row of the tensor `name` counts: its mean squared gradient, all tensors on one scale.
    /// [`save`](Self::save) keeps it.
    ///
    /// # Errors
    /// InvalidArgument where there is no such tensor, or a value is negative or no number.
    pub fn set_rows(&mut self, name: &str, rows: Vec<f32>) -> Result<()> {
        if !self.contains(name) {
            return Err(Error::invalid("the calibration has no such layer").in_tensor(name));
        }
        self.usable(name, &rows).map_err(|e| Error::invalid(e.message()).in_tensor(name))?;
        self.rows.insert(name.to_owned(), rows.into());
        Ok(())
    }

    /// Takes the importances of all layers that `file` has a tensor of, by their names, as
    /// [`set_rows`](Self::set_rows); other tensors are let be. Returns how many there were.
    ///
    /// # Errors
    /// InvalidArgument where none fits, or values are negative or no numbers; otherwise as reading the file.
    pub fn add_rows(&mut self, file: &dyn ModelSource) -> Result<usize> {
        let mut found = 0;
        for (i, info) in file.tensors().iter().enumerate() {
            if info.shape.len() != 1 || !self.contains(&info.name) {
                continue;
            }
            let mut rows = vec![0.0; in_memory(info.shape[0])?];
            info.dtype.to_f32(&file.read(i)?, &mut rows).map_err(|e| e.in_tensor(&info.name))?;
            self.set_rows(&info.name, rows)?;
            found += 1;
        }
        if found == 0 {
            return Err(Error::invalid("no tensor of the file is called like a layer of the calibration"));
        }
        Ok(found)
    }

    fn usable(&self, name: &str, rows: &[f32]) -> Result<()> {
        match rows.iter().find(|x| !x.is_finite() || **x < 0.0) {
            Some(x) => Err(Error::corruption(format!("importance of a row: {x} cannot be")).in_tensor(name)),
            None => Ok(()),
        }
    }

    /// How much each block turns its stream: 1 - cosine, mean over rows.
    ///
    /// # Errors
    /// Corruption where the file is damaged; Io.
    pub fn influence(&self) -> Result<Vec<f32>> {
        self.floats(&Part::Influence)
    }

    /// By how much each block changes its stream: squared length of what it adds over that of the stream, mean over rows.
    /// None in files of earlier versions.
    ///
    /// # Errors
    /// Corruption where the file is damaged; Io.
    pub fn change(&self) -> Result<Option<Vec<f32>>> {
        self.layout.change.then(|| self.floats(&Part::Change)).transpose()
    }

    /// Name of the table that samples are looked up in, if there is one.
    #[must_use]
    pub fn table(&self) -> Option<&str> {
        self.layout.table.as_ref().map(|(name, _)| name.as_str())
    }

    /// The table that samples are looked up in, and what part of the look-ups goes to each row.
    ///
    /// # Errors
    /// Corruption where the file is damaged; Io.
    pub fn frequency(&self) -> Result<Option<(&str, Vec<f32>)>> {
        let Some((name, _)) = &self.layout.table else { return Ok(None) };
        Ok(Some((name, self.floats(&Part::Frequency)?)))
    }

    /// Hash of the statistics of the tensor `name`, rows among them: the same for the same statistics.
    #[must_use]
    pub fn identity_of(&self, name: &str) -> Option<[u8; 32]> {
        let stage = *self.stage_of.get(name)?;
        let parts = self.layout.parts().ok()?;
        let mut hasher = blake3::Hasher::new();
        let own = [Part::Moment(stage), Part::Rows(name.to_owned())];
        for (i, (part, ..)) in parts.iter().enumerate() {
            if own.contains(part) {
                hasher.update(self.hashes.get(32 * i..32 * (i + 1))?);
            }
        }
        for row in self.rows.get(name).into_iter().flat_map(|rows| rows.iter()) {
            hasher.update(&row.to_le_bytes());
        }
        Some(*hasher.finalize().as_bytes())
    }

    /// Hash of all statistics.
    #[must_use]
    pub fn identity(&self) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.hashes);
        for (name, rows) in &self.rows {
            hasher.update(name.as_bytes());
            rows.iter().for_each(|row| {
                hasher.update(&row.to_le_bytes());
            });
        }
        *hasher.finalize().as_bytes()
    }

    /// Writes everything, with what [`set_rows`](Self::set_rows) has added, to a file at `path`.
    ///
    /// # Errors
    /// InvalidArgument where `path` exists and `replace` is false; Corruption where what was opened is damaged; Io.
    pub fn save(&self, path: &Path, replace: bool) -> Result<()> {
        let mut layout = self.layout.clone();
        for (name, rows) in &self.rows {
            layout.rows.retain(|(own, _)| own != name);
            layout.rows.push((name.clone(), rows.len()));
        }
        let mut out = AtomicFile::create(path, replace)?;
        layout.write(&mut out, |part| match part {
            Part::Rows(name) if self.rows.contains_key(name) => {
                Dtype::F32.from_f32(&self.rows[name]).map(Cow::Owned)
            }
            _ => self.part(part),
        })?;
        out.commit()
    }

    fn moment(&self, stage: usize) -> Result<Arc<Moment>> {
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = shared.get(&stage).and_then(Weak::upgrade) {
            return Ok(found);
        }
        let part = Part::Moment(stage);
        let (columns, count) = (self.layout.stages[stage].columns, self.counts[stage]);
        let moment = Moment::from_triangle(columns, count, &self.floats(&part)?);
        let moment = Arc::new(moment.map_err(|e| e.in_tensor(&part.name()))?);
        shared.insert(stage, Arc::downgrade(&moment));
        Ok(moment)
    }

    fn floats(&self, part: &Part) -> Result<Vec<f32>> {
        let bytes = self.part(part)?;
        let mut values = vec![0.0; bytes.len() / 4];
        Dtype::F32.to_f32(&bytes, &mut values)?;
        match values.iter().find(|x| !x.is_finite()) {
            Some(x) => Err(Error::corruption(format!("{x} cannot be")).in_tensor(&part.name())),
            None => Ok(values),
        }
    }

    /// Bytes of a part, held against their hash.
    fn part(&self, part: &Part) -> Result<Cow<'_, [u8]>> {
        let name = part.name();
        let bytes = bytes(&self.file, &name)?;
        let parts = self.layout.parts()?;
        let at = parts.iter().position(|(own, ..)| own == part);
        let expected = at.and_then(|i| self.hashes.get(32 * i..32 * (i + 1)));
        if expected != Some(blake3::hash(&bytes).as_bytes().as_slice()) {
            return Err(Error::corruption("the values are not those that were written: the hash differs")
                .in_tensor(&name)
                .with_hint("the file is damaged: copy it again, or calibrate again"));
        }
        Ok(bytes)
    }
}

/// Importances over their mean; none where all are 0.
fn scaled(rows: &[f32]) -> Option<(Arc<[f32]>, f64)> {
    let mean = rows.iter().map(|x| f64::from(*x)).sum::<f64>() / rows.len().max(1) as f64;
    let usable = mean > 0.0 && mean.is_finite();
    usable.then(|| (rows.iter().map(|x| super::gram::single(f64::from(*x) / mean)).collect(), mean))
}

fn bytes<'a>(file: &'a SafeTensors, name: &str) -> Result<Cow<'a, [u8]>> {
    let index = file.index_of(name);
    file.read(index.ok_or_else(|| Error::corruption("the calibration lacks this tensor").in_tensor(name))?)
}

/// What metadata and tensors of a file promise.
fn layout(file: &SafeTensors) -> Result<Layout> {
    let metadata = file.metadata();
    let text = |key: &str| {
        let missing = || Error::corruption(format!("the calibration's metadata lack {key:?}"));
        metadata.get(key).cloned().ok_or_else(missing)
    };
    fn number<T: std::str::FromStr>(key: &str, text: &str) -> Result<T> {
        text.parse()
            .map_err(|_| Error::corruption(format!("metadata {key:?}: expected a number, found {text:?}")))
    }
    let stages: Vec<StageEntry> = serde_json::from_str(&text("stages")?)
        .map_err(|e| Error::corruption(format!("metadata \"stages\": {e}")))?;
    let blocks = stages.last().map_or(0, |head| head.block);
    if stages.iter().any(|s| s.columns == 0 || s.block > blocks) {
        return Err(Error::corruption("metadata \"stages\": a stage of no columns, or behind the head"));
    }
    let length = |name: &str| {
        let info = file.index_of(name).and_then(|i| file.tensors().get(i));
        let length = info.and_then(|t| t.shape.first()).and_then(|n| usize::try_from(*n).ok());
        length.ok_or_else(|| Error::corruption("the calibration lacks this tensor").in_tensor(name))
    };
    let table = match metadata.get("table") {
        Some(name) => Some((name.clone(), length("frequency")?)),
        None => None,
    };
    let change = file.index_of("change").is_some();
    let rows = file.tensors().iter().filter_map(|t| t.name.strip_prefix("rows."));
    let rows = rows.map(|name| Ok((name.to_owned(), length(&format!("rows.{name}"))?)));
    let about = About {
        model: text("model")?,
        data: text("data")?,
        context: number("context", &text("context")?)?,
        samples: number("samples", &text("samples")?)?,
        seed: metadata.get("seed").map(|seed| number("seed", seed)).transpose()?,
    };
    Ok(Layout { about, stages, blocks, rows: rows.collect::<Result<_>>()?, table, change })
}

/// Refuses a file whose tensors are not those of its layout, in order.
fn check(file: &SafeTensors, parts: &[(Part, Dtype, Vec<u64>)]) -> Result<()> {
    let hashes = (HASHES.to_owned(), Dtype::U8, vec![parts.len() as u64, 32]);
    let expected = parts.iter().map(|(part, dtype, shape)| (part.name(), *dtype, shape.clone()));
    let mut found = file.tensors().iter();
    for (name, dtype, shape) in expected.chain([hashes]) {
        let Some(info) = found.next() else {
            return Err(Error::corruption("the calibration lacks this tensor").in_tensor(&name));
        };
        if (&info.name, info.dtype, &info.shape) != (&name, dtype, &shape) {
            let message = format!(
                "expected {dtype} {shape:?}, found {} with {} {:?}",
                info.name, info.dtype, info.shape
            );
            return Err(Error::corruption(message).in_tensor(&name));
        }
    }
    match found.next() {
        Some(more) => Err(Error::corruption("no part of a calibration").in_tensor(&more.name)),
        None => Ok(()),
    }
}
