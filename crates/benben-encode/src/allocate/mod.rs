//! Which method and how many bits each tensor gets, so that a file has a size, or a loss.

pub mod dynamic;
mod effort;
pub mod evolution;
mod goals;
mod influence;
mod levels;
mod network;
mod offer;
mod planner;
mod trial;
mod unit;

pub use effort::Effort;
pub use levels::{Level, Levels};
pub use network::NetworkTrial;
pub use planner::{Allocation, Goal, allocate};
pub use trial::{Replaced, Trial};
