//! Writes the golden packs of `format-spec/vectors` and their expected values:
//!
//! ```sh
//! cargo run --release -p benben --example make_vectors -- format-spec/vectors
//! ```
//!
//! Released vectors are never changed, only added: `tests/vectors.rs` holds this generator to the files that are there.

mod vectors;

use benben::{Error, Result};
use std::path::Path;

fn main() -> Result<()> {
    let folder = std::env::args().nth(1).ok_or_else(|| Error::invalid("which folder?"))?;
    for (name, bytes) in vectors::files()? {
        let path = Path::new(&folder).join(name);
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent)?;
        }
        let mut file = benben::AtomicFile::create(&path, true)?;
        std::io::Write::write_all(&mut file, &bytes)?;
        file.commit()?;
    }
    Ok(())
}
