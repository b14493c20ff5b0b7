//! What cannot be decoded, and what does not exist.

use super::{equal, log, open, packed, within_a_minute};
use benben_decode::store::Options;
use benben_decode::{ErrorKind, LayerStore, Limits, Pack, Weights};
use benben_format::{Error, ReadAt, Result, Source};
use std::borrow::Cow;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Barrier};

#[test]
fn a_damaged_tensor_is_named_and_the_others_go_on() {
    let tensors: Vec<String> = (0..4).map(|i| format!("layer.{i}")).collect();
    let shape = [64, 64];
    let specs: Vec<_> = tensors.iter().map(|name| (name.as_str(), &shape[..], true)).collect();
    let mut bytes = packed(&specs);
    let whole = open(bytes.clone());
    let leaf = whole.tensor("layer.2").unwrap().entry().expr.leaves()[0].clone();
    let end = whole.reader().segment_end(&leaf) as usize;
    bytes[end - 1] ^= 1;
    let damaged = open(bytes);
    within_a_minute(move || {
        for budget in [None, Some(0), Some(40_000)] {
            let (told, watch) = log();
            let options = Options { budget, watch: Some(watch), ..Options::default() };
            let store = LayerStore::with_options(Arc::clone(&damaged), &options).unwrap();
            for _ in 0..3 {
                for (i, name) in tensors.iter().enumerate() {
                    let mut y = [0.0; 64];
                    let asked = store.product(name, &[1.0; 64], 1, &mut y);
                    if i == 2 {
                        let e = asked.unwrap_err();
                        assert_eq!((e.kind(), e.tensor()), (ErrorKind::Corruption, Some("layer.2")), "{e}");
                    } else {
                        asked.unwrap();
                    }
                }
                // Together with good ones, and by rows.
                let mut y = [[0.0; 64]; 2];
                let [a, b] = &mut y;
                let e = store.products(&["layer.0", "layer.2"], &[1.0; 64], 1, &mut [a, b]).unwrap_err();
                assert_eq!(e.tensor(), Some("layer.2"));
                let e = store.rows("layer.2", &[63], &mut [0.0; 64]).unwrap_err();
                assert_eq!((e.kind(), e.tensor()), (ErrorKind::Corruption, Some("layer.2")), "{e}");
            }
            // Once for each who asked, three times in three ways (a table of one chunk is read whole), and at most
            // once more ahead.
            let failed = told.lock().unwrap().iter().filter(|line| *line == "failed layer.2").count();
            assert!((6..=10).contains(&failed), "{failed}");
            let counts = store.statistics();
            assert!(counts.bytes_held <= budget.unwrap_or(usize::MAX), "{counts:?}");
        }
    });
}

/// Bytes that cannot be read while `broken`; counts attempts of that time.
struct Unsteady {
    bytes: Vec<u8>,
    broken: AtomicBool,
    attempts: AtomicUsize,
}

impl ReadAt for Unsteady {
    fn len(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn read_at(&self, offset: u64, len: usize) -> Result<Cow<'_, [u8]>> {
        if self.broken.load(SeqCst) {
            self.attempts.fetch_add(1, SeqCst);
            // Long enough for everyone to come and wait.
            std::thread::sleep(std::time::Duration::from_millis(50));
            return Err(Error::from(std::io::Error::other("unplugged")));
        }
        self.bytes.read_at(offset, len)
    }
}

#[test]
fn an_error_is_given_to_all_who_wait_and_not_kept() {
    let bytes = packed(&[("t", &[64, 64], false)]);
    let source = Arc::new(Unsteady { bytes, broken: AtomicBool::new(false), attempts: AtomicUsize::new(0) });
    let pack = Pack::from_source(Arc::clone(&source) as Source, Limits::default()).unwrap();
    let store = Arc::new(LayerStore::new(Arc::new(pack)));
    source.broken.store(true, SeqCst);
    let barrier = Arc::new(Barrier::new(6));
    let threads: Vec<_> = (0..6)
        .map(|_| {
            let (store, barrier) = (Arc::clone(&store), Arc::clone(&barrier));
            std::thread::spawn(move || {
                barrier.wait();
                store.get("t").map(drop).unwrap_err()
            })
        })
        .collect();
    for thread in threads {
        let e = thread.join().unwrap();
        assert_eq!((e.kind(), e.tensor()), (ErrorKind::Io, Some("t")), "{e}");
    }
    assert!(source.attempts.load(SeqCst) < 6, "those who wait share one attempt");
    assert_eq!(store.statistics().bytes_held, 0);
    source.broken.store(false, SeqCst);
    assert_eq!(store.get("t").unwrap().bytes(), 64 * 64 * 4);
}

#[test]
fn what_does_not_exist_is_an_error_with_the_nearest_name() {
    let (pack, _) = equal(3, &[8, 8]);
    let store = LayerStore::new(Arc::clone(&pack));
    let mut y = [0.0; 8];
    for e in [
        store.product("layer.9", &[0.0; 8], 1, &mut y).unwrap_err(),
        store.rows("layer.9", &[0], &mut y).unwrap_err(),
        store.vector("layer.9").unwrap_err(),
        store.get("layer.9").map(drop).unwrap_err(),
    ] {
        assert_eq!(e.kind(), ErrorKind::InvalidArgument);
        assert!(e.hint().is_some_and(|hint| hint.contains("layer.")), "{e}");
    }
    for e in [store.rows("layer.0", &[8], &mut y), store.rows("layer.0", &[1, 2], &mut y)] {
        let e = e.unwrap_err();
        assert_eq!((e.kind(), e.tensor()), (ErrorKind::InvalidArgument, Some("layer.0")));
    }
    let options = Options { order: Some(vec!["layer.0".into(), "layer.7".into()]), ..Options::default() };
    assert_eq!(LayerStore::with_options(pack, &options).unwrap_err().kind(), ErrorKind::InvalidArgument);
}
