//! What is asked of a store.

use super::Watch;
use crate::Form;
use std::fmt;

/// How a [`LayerStore`](super::LayerStore) keeps tensors.
#[derive(Clone)]
pub struct Options {
    /// Bytes of weights to keep in memory; none keeps everything that was ever asked for. Tensors that are in use are
    /// held in any case: the store holds at most this and the tensors of one call that is running.
    pub budget: Option<usize>,
    /// Form in which tensors are kept: codes are a quarter to an eighth of the dense values, and multiplied as they are.
    /// The form decides how products round, so that it stays the same whatever the budget.
    pub form: Form,
    /// Matrices that are decoded ahead of the one that is asked for; 0 for none. Under a budget each takes the place
    /// of something that has to be decoded again later: few are better than many.
    pub prefetch: usize,
    /// Threads that decode; 0 for as many as the pool has in which the store is made.
    pub threads: usize,
    /// Names of tensors in the order in which the network asks for them, one round; none learns it, beginning with
    /// the stored order. A tensor may be named several times.
    pub order: Option<Vec<String>>,
    /// Is told of what happens.
    pub watch: Option<Watch>,
}

impl Default for Options {
    fn default() -> Self {
        Self { budget: None, form: Form::Codes, prefetch: 2, threads: 0, order: None, watch: None }
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("budget", &self.budget)
            .field("form", &self.form)
            .field("prefetch", &self.prefetch)
            .field("threads", &self.threads)
            .field("order", &self.order.as_ref().map(Vec::len))
            .field("watch", &self.watch.is_some())
            .finish()
    }
}
