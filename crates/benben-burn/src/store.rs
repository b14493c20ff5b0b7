//! A pack as a source of parameters for burn's modules.

use benben_decode::Pack;
use benben_format::{Dtype, Error, Result, in_memory};
use burn::store::burn_pack::{Error as PackError, Tensor as PackTensor};
use burn::store::{
    ApplyError, ApplyResult, KeyRemapper, ModuleAdapter, ModuleSnapshot, ModuleStore, PathFilter,
    PyTorchToBurnAdapter, bridge,
};
use burn::tensor::{DType, Shape, TensorData};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

/// The first error of a tensor that burn asked for, with its kind: burn's own errors are text.
type FirstError = Arc<Mutex<Option<Error>>>;

/// Loads the tensors of a pack into a module.
///
/// A tensor is decoded when burn asks for it, one after the other: beside the module there is one tensor in memory, and
/// its copy while a linear layer's weight is transposed. Packs are made from model files that hold a linear layer as
/// `[out, in]`, while burn has `[in, out]`, and call the scale of a norm `weight`: burn's [`PyTorchToBurnAdapter`] is
/// the adapter unless another is set. Floats come as f32, in which packs are computed, whatever the file held.
pub struct PackStore {
    pack: Arc<Pack>,
    filter: Option<PathFilter>,
    remapper: KeyRemapper,
    adapter: Box<dyn ModuleAdapter>,
    allow_partial: bool,
    validate: bool,
    own_dtypes: bool,
    skip_enum_variants: bool,
    tensors: Option<BTreeMap<String, PackTensor>>,
    first_error: FirstError,
}

impl PackStore {
    /// Opens the pack at `path`; its tensors are read later.
    ///
    /// # Errors
    /// As [`Pack::open`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Ok(Self::new(Arc::new(Pack::open(path.as_ref())?)))
    }

    /// The tensors of a pack that is open.
    #[must_use]
    pub fn new(pack: Arc<Pack>) -> Self {
        Self {
            pack,
            filter: None,
            remapper: KeyRemapper::new(),
            adapter: Box::new(PyTorchToBurnAdapter),
            allow_partial: false,
            validate: true,
            own_dtypes: false,
            skip_enum_variants: false,
            tensors: None,
            first_error: FirstError::default(),
        }
    }

    /// Loads only parameters that `filter` matches, by their paths in the module.
    #[must_use]
    pub fn with_filter(mut self, filter: PathFilter) -> Self {
        self.filter = Some(filter);
        self
    }

    /// Loads parameters whose paths match the regular expression `pattern`, besides those of earlier calls.
    ///
    /// # Panics
    /// For a pattern that is no regular expression, as burn's own stores.
    #[must_use]
    pub fn with_regex(mut self, pattern: &str) -> Self {
        self.filter = Some(self.filter.unwrap_or_default().with_regex(pattern));
        self
    }

    /// Loads the parameter at `path`, besides those of earlier calls.
    #[must_use]
    pub fn with_full_path(mut self, path: impl Into<String>) -> Self {
        self.filter = Some(self.filter.unwrap_or_default().with_full_path(path));
        self
    }

    /// Renames the pack's tensors by `remapper` before they are looked up.
    #[must_use]
    pub fn remap(mut self, remapper: KeyRemapper) -> Self {
        self.remapper = remapper;
        self.tensors = None;
        self
    }

    /// Replaces what matches the regular expression `from` in names of the pack by `to`, after earlier calls.
    ///
    /// # Errors
    /// InvalidArgument for a pattern that is no regular expression.
    pub fn with_key_remapping(mut self, from: &str, to: &str) -> Result<Self> {
        self.remapper = self.remapper.add_pattern(from, to).map_err(|e| Error::invalid(e.to_string()))?;
        self.tensors = None;
        Ok(self)
    }

    /// Adapts tensors by `adapter`; [`burn::store::IdentityAdapter`] for packs of what burn itself saved.
    #[must_use]
    pub fn with_from_adapter(mut self, adapter: impl ModuleAdapter + 'static) -> Self {
        self.adapter = Box::new(adapter);
        self
    }

    /// Whether parameters that the pack has no tensor for keep their values; without, they are an error.
    #[must_use]
    pub fn allow_partial(mut self, allow: bool) -> Self {
        self.allow_partial = allow;
        self
    }

    /// Whether a tensor that cannot be applied is an error (as at first), or only listed in the result.
    #[must_use]
    pub fn validate(mut self, validate: bool) -> Self {
        self.validate = validate;
        self
    }

    /// Whether floats come in the dtype of the packed file (f16, bf16) instead of f32; a module then computes in it.
    #[must_use]
    pub fn own_dtypes(mut self, own: bool) -> Self {
        self.own_dtypes = own;
        self.tensors = None;
        self
    }

    /// Whether names of enum variants are left out of paths, as files of other frameworks need it.
    #[must_use]
    pub fn skip_enum_variants(mut self, skip: bool) -> Self {
        self.skip_enum_variants = skip;
        self
    }

    /// The pack under the store.
    #[must_use]
    pub fn pack(&self) -> &Arc<Pack> {
        &self.pack
    }

    fn tensors(&mut self) -> Result<&BTreeMap<String, PackTensor>> {
        let tensors = match self.tensors.take() {
            Some(tensors) => tensors,
            None => self.remapped()?,
        };
        Ok(self.tensors.insert(tensors))
    }

    fn remapped(&self) -> Result<BTreeMap<String, PackTensor>> {
        let tensors = self.pack.tensors().map(|t| self.deferred(t.name())).collect::<Result<Vec<_>>>()?;
        let (tensors, renamed) = self.remapper.remap(tensors);
        let mut by_name = BTreeMap::new();
        for (tensor, (_, before)) in tensors.into_iter().zip(renamed) {
            let name = tensor.name.clone();
            if by_name.insert(name.clone(), tensor).is_some() {
                return Err(Error::invalid(format!(
                    "{before} and another tensor are both renamed to {name}"
                )));
            }
        }
        Ok(by_name)
    }

    /// Tensor `name`, which is decoded when its bytes are asked for.
    fn deferred(&self, name: &str) -> Result<PackTensor> {
        let tensor = self.pack.tensor(name)?;
        let stored = tensor.dtype();
        let (dtype, target) = match dtype(stored) {
            Some(dtype) if self.own_dtypes || !stored.is_float() => (stored, dtype),
            _ => (Dtype::F32, DType::F32),
        };
        let shape = tensor.shape().iter().map(|&n| in_memory(n)).collect::<Result<Vec<_>>>()?;
        let shape = Shape::from(shape);
        let (pack, first_error) = (Arc::clone(&self.pack), Arc::clone(&self.first_error));
        let (own_name, own_shape) = (name.to_owned(), shape.clone());
        Ok(bridge::deferred(name.to_owned(), target, shape, None, move || {
            decoded(&pack, &own_name, dtype, target, &own_shape).map_err(|e| {
                let text = e.to_string();
                first_error.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(e);
                PackError::ValidationError(text)
            })
        }))
    }

    /// The error of one parameter, with the kind of its decoder's where that was the cause.
    fn error_of(&self, error: &ApplyError) -> Error {
        let decoder = self.first_error.lock().unwrap_or_else(PoisonError::into_inner).take();
        let path = match error {
            ApplyError::ShapeMismatch { path, .. }
            | ApplyError::DTypeMismatch { path, .. }
            | ApplyError::AdapterError { path, .. }
            | ApplyError::LoadError { path, .. } => path,
        };
        match (error, decoder) {
            (ApplyError::LoadError { .. }, Some(decoder)) => decoder,
            (ApplyError::ShapeMismatch { expected, found, .. }, _) => {
                Error::invalid(format!("the module has shape {expected:?}, the pack {found:?}"))
                    .in_tensor(path)
                    .with_hint("another adapter may be needed: see PackStore::with_from_adapter")
            }
            (ApplyError::DTypeMismatch { expected, found, .. }, _) => {
                Error::invalid(format!("the module has {expected:?}, the pack {found:?}")).in_tensor(path)
            }
            (ApplyError::AdapterError { message, .. } | ApplyError::LoadError { message, .. }, _) => {
                Error::invalid(message.clone()).in_tensor(path)
            }
        }
    }
}

impl ModuleStore for PackStore {
    type Error = Error;

    /// Refused: packs are made from model files.
    fn collect_from<M: ModuleSnapshot>(&mut self, _module: &M) -> Result<()> {
        Err(Error::unsupported("a pack is not written from a module in memory")
            .with_hint("save the module with burn's SafetensorsStore, then run `benben pack` on that file"))
    }

    fn apply_to<M: ModuleSnapshot>(&mut self, module: &mut M) -> Result<ApplyResult> {
        let tensors = self.tensors()?.values().cloned().collect();
        self.first_error.lock().unwrap_or_else(PoisonError::into_inner).take();
        let (filter, adapter) = (self.filter.clone(), self.adapter.clone());
        let result = module.apply(tensors, filter, Some(adapter), self.skip_enum_variants);
        if self.validate
            && let Some(error) = result.errors.first()
        {
            return Err(self.error_of(error));
        }
        if !self.allow_partial
            && let Some((first, _)) = result.missing.first()
        {
            let count = result.missing.len();
            return Err(Error::invalid(format!(
                "the pack has no tensor for {count} parameters of the module"
            ))
            .in_tensor(first)
            .with_hint(
                "PackStore::with_key_remapping renames tensors, allow_partial leaves parameters as they are",
            ));
        }
        Ok(result)
    }

    fn get_tensor(&mut self, name: &str) -> Result<Option<&PackTensor>> {
        Ok(self.tensors()?.get(name))
    }

    fn get_all_tensors(&mut self) -> Result<&BTreeMap<String, PackTensor>> {
        self.tensors()
    }

    fn keys(&mut self) -> Result<Vec<String>> {
        Ok(self.tensors()?.keys().cloned().collect())
    }
}

/// Tensor `name` as burn's data, of `target`, which is `dtype` in burn's terms.
fn decoded(pack: &Pack, name: &str, dtype: Dtype, target: DType, shape: &Shape) -> Result<TensorData> {
    let tensor = pack.tensor(name)?;
    if target == DType::F32 {
        return Ok(TensorData::new(tensor.to_f32()?, shape.clone()));
    }
    Ok(TensorData::from_bytes_vec(tensor.to_bytes_as(dtype)?, shape.clone(), target))
}

/// The element type in burn's terms; none for the 8-bit floats, which burn has no tensors of.
fn dtype(dtype: Dtype) -> Option<DType> {
    Some(match dtype {
        Dtype::F64 => DType::F64,
        Dtype::F32 => DType::F32,
        Dtype::F16 => DType::F16,
        Dtype::BF16 => DType::BF16,
        Dtype::I64 => DType::I64,
        Dtype::I32 => DType::I32,
        Dtype::I16 => DType::I16,
        Dtype::I8 => DType::I8,
        Dtype::U64 => DType::U64,
        Dtype::U32 => DType::U32,
        Dtype::U16 => DType::U16,
        Dtype::U8 => DType::U8,
        // As integers, of which burn makes its own: bytes of a file may be no bool of Rust's.
        Dtype::Bool => DType::U8,
        _ => return None,
    })
}
