//! What tests of the whole share: models made on the spot, counting sources, a counting allocator, assets.

pub mod alloc;
pub mod assets;
pub mod counting;
pub mod model;
pub mod random;
