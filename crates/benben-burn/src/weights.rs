//! Where packed layers take their weights from.

use benben_decode::{LayerStore, Pack, Weights};
use std::fmt;
use std::sync::Arc;

/// Named weights that layers share and ask when they are called, and the pack under them where there is one: a GPU is
/// given the pack's codes, a CPU the products themselves.
#[derive(Clone)]
pub struct PackedWeights {
    weights: Arc<dyn Weights>,
    pack: Option<Arc<Pack>>,
}

impl PackedWeights {
    /// Weights that are no pack. On a GPU their matrices are uploaded dense at each call.
    #[must_use]
    pub fn from_weights(weights: Arc<dyn Weights>) -> Self {
        Self { weights, pack: None }
    }

    /// The weights.
    #[must_use]
    pub fn weights(&self) -> &Arc<dyn Weights> {
        &self.weights
    }

    /// The pack that they are in.
    #[must_use]
    pub fn pack(&self) -> Option<&Arc<Pack>> {
        self.pack.as_ref()
    }

    /// Whether both ask the same weights.
    pub(crate) fn same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.weights, &other.weights)
    }
}

impl From<Arc<LayerStore>> for PackedWeights {
    fn from(store: Arc<LayerStore>) -> Self {
        let pack = Some(Arc::clone(store.pack()));
        Self { weights: store, pack }
    }
}

impl fmt::Debug for PackedWeights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PackedWeights").field("in_a_pack", &self.pack.is_some()).finish_non_exhaustive()
    }
}
