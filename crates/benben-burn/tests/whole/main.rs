//! Packs in burn, against what the packs themselves say.

mod layers;
mod made;
mod store;
