//! The state of a recovery, to go on from: one safetensors file.

use super::parameter::Parameter;
use benben_format::{AtomicFile, Dtype, Error, Result};
use benben_io::ModelSource;
use benben_io::safetensors::{SafeTensors, TensorSpec, write};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::Path;

/// Where a recovery stands; the parameters are kept beside it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct State {
    /// Blocks that are tuned.
    pub(super) blocks: usize,
    /// Steps done end to end.
    pub(super) steps: usize,
    /// How often the rate was halved, because it led away.
    pub(super) halvings: usize,
    /// The step after which gradients were forgotten last.
    pub(super) restart: usize,
    /// Seconds that it has taken so far.
    pub(super) seconds: f64,
    /// Divergence before anything was changed; measured once.
    pub(super) before: f64,
    /// Least divergence so far.
    pub(super) least: f64,
    /// How often the share of codes that move was halved.
    pub(super) halvings_of_codes: usize,
    /// Values of all parameters where it was found.
    pub(super) best: Vec<Vec<f32>>,
    /// Codes of all matrices of codewords there, and now.
    pub(super) best_codes: Vec<u8>,
    pub(super) codes: Vec<u8>,
}

/// Tensors of the file: all parameters one after the other.
const NAMES: [&str; 4] = ["best", "first", "second", "values"];
/// All codes one after the other.
const CODES: [&str; 2] = ["best_codes", "codes"];

impl State {
    /// Writes state and parameters; the file is there as a whole or not at all.
    pub(super) fn save(&self, path: &Path, identity: &str, parameters: &[&Parameter]) -> Result<()> {
        let of = |part: fn(&Parameter) -> &Vec<f32>| parameters.iter().copied().map(part).collect::<Vec<_>>();
        let parts = [self.best.iter().collect(), of(|p| &p.first), of(|p| &p.second), of(|p| &p.values)];
        let count: usize = parameters.iter().map(|p| p.values.len()).sum();
        let spec = |name: &str, dtype, count: usize| TensorSpec {
            name: name.to_owned(),
            dtype,
            shape: vec![count as u64],
        };
        let codes = [&self.best_codes, &self.codes];
        let mut specs: Vec<_> = NAMES.iter().map(|name| spec(name, Dtype::F32, count)).collect();
        specs.extend(CODES.iter().zip(codes).map(|(name, codes)| spec(name, Dtype::U8, codes.len())));
        let metadata = [
            ("identity", identity.to_owned()),
            ("blocks", self.blocks.to_string()),
            ("steps", self.steps.to_string()),
            ("halvings", self.halvings.to_string()),
            ("halvings_of_codes", self.halvings_of_codes.to_string()),
            ("restart", self.restart.to_string()),
            ("seconds", format!("{:x}", self.seconds.to_bits())),
            ("before", format!("{:x}", self.before.to_bits())),
            ("least", format!("{:x}", self.least.to_bits())),
        ];
        let metadata = BTreeMap::from(metadata.map(|(key, value)| (key.to_owned(), value)));
        let mut file = AtomicFile::create(path, true)?;
        write(&mut file, &specs, &metadata, |i| {
            let Some(part) = parts.get(i) else {
                return Ok(Cow::Borrowed(codes[i - parts.len()].as_slice()));
            };
            let bytes = part.iter().flat_map(|v| v.iter()).flat_map(|x| x.to_le_bytes());
            Ok(Cow::Owned(bytes.collect()))
        })?;
        file.commit()
    }

    /// Reads what [`save`](Self::save) wrote for a network with so many `codes`; none where there is no file.
    ///
    /// # Errors
    /// InvalidArgument for the state of another recovery; Corruption where it is none.
    pub(super) fn load(
        path: &Path,
        identity: &str,
        parameters: &mut [&mut Parameter],
        codes: usize,
    ) -> Result<Option<Self>> {
        if !path.exists() {
            return Ok(None);
        }
        let file = SafeTensors::new(benben_format::open(path)?)?;
        let text = |key: &str| {
            let missing = || Error::corruption(format!("a checkpoint without {key}"));
            file.metadata().get(key).cloned().ok_or_else(missing)
        };
        if text("identity")? != identity {
            return Err(Error::invalid("the checkpoint is of another model, text or setting")
                .with_hint("remove it, or give the settings that it was made with"));
        }
        let wrong = |key: &str| Error::corruption(format!("a checkpoint whose {key} is no number"));
        let number = |key: &str| text(key)?.parse::<usize>().map_err(|_| wrong(key));
        let real = |key: &str| {
            let bits = u64::from_str_radix(&text(key)?, 16).map_err(|_| wrong(key))?;
            Ok::<_, Error>(f64::from_bits(bits))
        };
        let count: usize = parameters.iter().map(|p| p.values.len()).sum();
        let read = |name: &str| {
            let missing = || Error::corruption("a checkpoint of another size").in_tensor(name);
            let at = file.index_of(name).ok_or_else(missing)?;
            if file.tensors()[at].dtype != Dtype::F32 || file.tensors()[at].shape != [count as u64] {
                return Err(missing());
            }
            let mut values = vec![0.0; count];
            Dtype::F32.to_f32(&file.read(at)?, &mut values)?;
            Ok(values)
        };
        let read_codes = |name: &str| {
            let missing = || Error::corruption("a checkpoint of another size").in_tensor(name);
            let at = file.index_of(name).ok_or_else(missing)?;
            if file.tensors()[at].dtype != Dtype::U8 || file.tensors()[at].shape != [codes as u64] {
                return Err(missing());
            }
            Ok(file.read(at)?.into_owned())
        };
        let (best_codes, codes) = (read_codes("best_codes")?, read_codes("codes")?);
        let [best, first, second, values] = [read("best")?, read("first")?, read("second")?, read("values")?];
        let mut at = 0;
        let mut kept = Vec::with_capacity(parameters.len());
        for parameter in parameters {
            let here = at..at + parameter.values.len();
            at = here.end;
            parameter.first.copy_from_slice(&first[here.clone()]);
            parameter.second.copy_from_slice(&second[here.clone()]);
            parameter.values.copy_from_slice(&values[here.clone()]);
            kept.push(best[here].to_vec());
        }
        let (blocks, steps) = (number("blocks")?, number("steps")?);
        let (halvings, restart) = (number("halvings")?, number("restart")?);
        if restart > steps || halvings > steps {
            return Err(Error::corruption("a checkpoint whose steps do not fit together"));
        }
        let halvings_of_codes = number("halvings_of_codes")?;
        let (seconds, before, least) = (real("seconds")?, real("before")?, real("least")?);
        if !(seconds.is_finite() && seconds >= 0.0) {
            return Err(wrong("seconds"));
        }
        Ok(Some(Self {
            blocks,
            steps,
            halvings,
            restart,
            seconds,
            before,
            least,
            halvings_of_codes,
            best: kept,
            best_codes,
            codes,
        }))
    }
}
