//! A network that is run with some of its tensors replaced by levels.

use super::levels::Level;
use benben_format::Result;

/// Tensors that are replaced by one level: their names, and the level.
pub type Replaced<'a> = (&'a [String], &'a Level);

/// Measures what levels do to the loss of a network.
pub trait Trial {
    /// Number of samples there are.
    fn samples(&self) -> usize;

    /// Mean loss over `samples` of the network with these tensors replaced, against the network as it is; 0 where
    /// nothing is lost.
    ///
    /// # Errors
    /// As reading the levels and running the network.
    fn loss(&mut self, replaced: &[Replaced<'_>], samples: &[usize]) -> Result<f64>;

    /// Whether samples are looked up in the tensor `name`: statistics of a layer that uses it too, such as a tied head,
    /// do not say all of it.
    fn is_table(&self, name: &str) -> bool;

    /// Names network and samples: measurements are kept under it. No white space.
    fn name(&self) -> &str;
}
