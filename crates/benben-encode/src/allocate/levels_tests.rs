use super::*;
use crate::coder::DataFree;
use crate::method::Codec;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Counts how often it codes, and has statistics of one name.
struct Counting(AtomicUsize, u8);

impl Coder for Counting {
    fn code(&self, task: &Task<'_>) -> Result<Coded> {
        self.0.fetch_add(1, Ordering::Relaxed);
        DataFree.code(task)
    }

    fn metric(&self, name: &str) -> Option<[u8; 32]> {
        (name == "known").then_some([self.1; 32])
    }

    fn calibration(&self) -> Option<String> {
        Some("c0ffee".into())
    }
}

fn values() -> Vec<f32> {
    (0..64 * 48).map(|i| ((i * i) as f32 * 0.13).sin()).collect()
}

fn task<'a>(name: &'a str, values: &'a [f32], method: &'a Method, bits: f64) -> Task<'a> {
    Task { name, shape: &[64, 48], values, method, target: Target::BitsPerWeight(bits), seed: 0 }
}

#[test]
fn a_level_is_coded_once_and_gives_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let (values, coder) = (values(), Counting(AtomicUsize::new(0), 1));
    for codec in [Codec::Scalar, Codec::Trellis, Codec::Pvq, Codec::Rvq, Codec::Ternary] {
        let method = Method { rotate: codec == Codec::Pvq, ..Method::new(codec) };
        let task = task("w", &values, &method, 3.0);
        let before = coder.0.load(Ordering::Relaxed);
        for _ in 0..2 {
            // Opened anew: what an earlier run left is found.
            let levels = Levels::open(folder.path(), &coder).unwrap();
            let level = levels.level(&task).unwrap();
            let direct = DataFree.code(&task).unwrap();
            assert_eq!(levels.code(&task).unwrap(), direct);
            let stored: u64 = direct.expr.leaves().iter().map(|l| l.stored_bytes()).sum();
            assert_eq!((level.bytes, level.loss), (stored, direct.loss));
            assert_eq!(levels.resident(&level).unwrap().shape(), [64, 48]);
        }
        assert_eq!(coder.0.load(Ordering::Relaxed), before + 1, "{codec:?}");
    }
}

#[test]
fn what_decides_the_bytes_tells_levels_apart() {
    let folder = tempfile::tempdir().unwrap();
    let (values, method) = (values(), Method::new(Codec::Scalar));
    let (coder, other) = (Counting(AtomicUsize::new(0), 1), Counting(AtomicUsize::new(0), 2));
    let levels = Levels::open(folder.path(), &coder).unwrap();
    let base = task("w", &values, &method, 3.0);
    let key = |task: &Task<'_>| levels.key(task);
    let rotated = Method { rotate: true, ..method };
    assert_eq!(key(&base), key(&task("other name", &values, &method, 3.0)));
    assert_ne!(key(&base), key(&task("known", &values, &method, 3.0)));
    assert_ne!(key(&base), key(&task("w", &values, &method, 3.5)));
    assert_ne!(key(&base), key(&task("w", &values, &rotated, 3.0)));
    assert_ne!(key(&base), key(&Task { seed: 1, ..base }));
    assert_ne!(key(&base), key(&Task { shape: &[48, 64], ..base }));
    let known = task("known", &values, &method, 3.0);
    assert_ne!(key(&known), Levels::open(folder.path(), &other).unwrap().key(&known));
}

#[test]
fn damage_is_found_and_named() {
    let folder = tempfile::tempdir().unwrap();
    let (values, method) = (values(), Method::new(Codec::Scalar));
    let levels = Levels::open(folder.path(), &DataFree).unwrap();
    let task = task("w", &values, &method, 3.0);
    let level = levels.level(&task).unwrap();
    let path = levels.path(&level.key);
    let whole = std::fs::read(&path).unwrap();
    let put = |bytes: &[u8]| {
        let mut file = AtomicFile::create(&path, true).unwrap();
        file.write_all(bytes).unwrap();
        file.commit().unwrap();
    };
    for at in (0..whole.len()).step_by(37) {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x10;
        put(&bytes);
        // Gaps between segments belong to nobody; all else is covered by a checksum.
        match levels.code(&task) {
            Ok(coded) => assert_eq!(coded, DataFree.code(&task).unwrap(), "byte {at}"),
            Err(e) => assert!(e.to_string().contains(&level.key) && e.hint().is_some(), "byte {at}: {e}"),
        }
    }
    put(&whole[..whole.len() / 2]);
    assert!(levels.code(&task).is_err());
}

#[test]
fn measurements_are_kept() {
    let folder = tempfile::tempdir().unwrap();
    let levels = Levels::open(folder.path(), &DataFree).unwrap();
    levels.keep("a", 1.25e-3).unwrap();
    levels.keep("b", f64::INFINITY).unwrap();
    assert!(levels.keep("a b", 1.0).is_err());
    let again = Levels::open(folder.path(), &DataFree).unwrap();
    assert_eq!((again.measured("a"), again.measured("b")), (Some(1.25e-3), Some(f64::INFINITY)));
    assert_eq!(again.measured("c"), None);
    for damaged in ["a 1.0", "a x .", "a 1 . .", "a"] {
        assert!(parse(damaged).is_err(), "{damaged}");
    }
}
