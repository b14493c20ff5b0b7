//! Packs in burn, against what the packs themselves say.

mod layers;
mod llama;
mod made;
mod store;
