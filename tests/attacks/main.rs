//! Damaged packs: an error of the right kind each time, never a panic, a wrong value, or more memory than the limits.

use benben::{ErrorKind, Limits, ModelSource, Pack, PackedModel};
use benben_tests::alloc::{Counting, peak_of};
use benben_tests::model::{MadeModel, pack_to_memory, small_model};
use benben_tests::random::Random;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The counting allocator counts for the whole process: tests that measure must not run side by side.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// Small enough that an allocation beyond it would show.
const LIMITS: Limits = Limits {
    index_bytes: 1 << 20,
    items: 1 << 16,
    entries: 1000,
    depth: 16,
    nodes: 256,
    rank: 16,
    name_bytes: 1 << 10,
    tensor_bytes: 1 << 20,
};
/// What opening and reading under `LIMITS` may take in all: the index, stored and decompressed and parsed, and
/// a few values of the largest tensor at once.
const MOST_MEMORY: usize = 12 << 20;

fn open(bytes: Vec<u8>) -> benben::Result<Pack> {
    Pack::from_source(Arc::new(bytes), LIMITS)
}

fn values(pack: &Pack) -> BTreeMap<String, Vec<u8>> {
    pack.tensors().map(|t| (t.name().to_owned(), t.to_bytes().unwrap())).collect()
}

/// Opens, verifies and reads everything; nothing wrong may be delivered, and `verify` must notice.
fn must_be_noticed(damaged: Vec<u8>, good: &BTreeMap<String, Vec<u8>>, what: &str) {
    let pack = match open(damaged) {
        Ok(pack) => pack,
        Err(e) => {
            let kinds = [ErrorKind::Corruption, ErrorKind::InsufficientData, ErrorKind::Compatibility];
            assert!(kinds.contains(&e.kind()), "{what}: {e}");
            return;
        }
    };
    let report = pack.verify(&mut benben::ignore).unwrap();
    assert!(!report.is_good(), "{what}: verify found nothing");
    for tensor in pack.tensors() {
        match tensor.to_bytes() {
            Ok(bytes) => assert_eq!(bytes, good[tensor.name()], "{what}: a wrong value of {}", tensor.name()),
            Err(e) => assert_eq!(e.kind(), ErrorKind::Corruption, "{what}: {e}"),
        }
    }
}

#[test]
fn every_flipped_bit_is_noticed_and_delivers_no_wrong_value() {
    let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let (model, recipe) = small_model().unwrap();
    let pack = pack_to_memory(&model, &recipe).unwrap();
    let good = values(&open(pack.clone()).unwrap());
    let mut worst = 0;
    for bit in 0..pack.len() * 8 {
        let mut damaged = pack.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        let ((), peak) =
            peak_of(|| must_be_noticed(damaged, &good, &format!("bit {bit} of {}", pack.len() * 8)));
        worst = worst.max(peak);
    }
    println!("{} bits flipped one by one; most memory {worst} bytes", pack.len() * 8);
    assert!(worst < MOST_MEMORY, "{worst} bytes in use");
}

#[test]
fn a_pack_cut_at_any_byte_is_incomplete() {
    let (model, recipe) = small_model().unwrap();
    let pack = pack_to_memory(&model, &recipe).unwrap();
    for len in 0..pack.len() {
        let e = open(pack[..len].to_vec()).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::InsufficientData, "cut at {len}: {e}");
    }
}

#[test]
fn a_large_pack_cut_at_a_thousand_places_says_what_is_missing_and_which_tensor_is_first() {
    let names: Vec<String> = (0..24).map(|i| format!("layer.{i}.weight")).collect();
    let tensors: Vec<_> =
        names.iter().map(|n| (n.as_str(), benben::Dtype::F32, &[256u64, 1024][..])).collect();
    let model = MadeModel::new(&tensors);
    let recipe = benben_tests::model::recipe_with("scalar:4").unwrap();
    let pack = pack_to_memory(&model, &recipe).unwrap();
    let whole = Pack::from_source(Arc::new(pack.clone()), Limits::default()).unwrap();
    assert!(whole.reader().front_index_bytes() > 0, "a large pack has a copy of its index at the front");
    // Where each tensor ends, counted from the start of the file; what the message is held against.
    let ends: Vec<(u64, &str)> = whole
        .tensors()
        .map(|t| {
            let leaf = t.entry().expr.leaves()[0];
            (whole.reader().segment_end(leaf), t.name())
        })
        .collect();
    let front = 64 + whole.reader().front_index_bytes();
    let mut random = Random::new(9);
    for _ in 0..1000 {
        let len = random.below(pack.len());
        let e = Pack::from_source(Arc::new(pack[..len].to_vec()), Limits::default()).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::InsufficientData, "{e}");
        if len < 64 {
            continue; // not even the header is whole
        }
        let missing = format!("{} of {} bytes are missing", pack.len() - len, pack.len());
        assert!(e.message().contains(&missing), "cut at {len}: {e}");
        let first = ends.iter().find(|(end, _)| *end > len as u64);
        match first {
            _ if (len as u64) < front => {
                assert!(e.message().contains("no tensor can be read"), "cut at {len}: {e}");
            }
            Some((_, name)) => assert!(
                e.message().contains(&format!("first unreadable tensor is {name} ")),
                "cut at {len}: {e}"
            ),
            None => assert!(e.message().contains("every tensor is readable"), "cut at {len}: {e}"),
        }
        // What is before the cut can still be had.
        if let Ok(partial) = Pack::from_truncated(Arc::new(pack[..len].to_vec()), Limits::default())
            && let Some((end, name)) = ends.first()
            && *end <= len as u64
        {
            assert_eq!(
                partial.tensor(name).unwrap().to_bytes().unwrap(),
                whole.tensor(name).unwrap().to_bytes().unwrap()
            );
        }
    }
}

/// Repairs the root hash after the index was changed, so that what lies behind it is reached.
fn repair(pack: &mut [u8]) {
    let end = pack.len() - 64;
    let offset = u64::from_le_bytes(pack[end..end + 8].try_into().unwrap());
    if let Some(index) = usize::try_from(offset).ok().and_then(|o| pack.get(o..end)) {
        let root = *blake3::hash(index).as_bytes();
        pack[end + 16..end + 48].copy_from_slice(&root);
    }
}

/// Opens and reads whatever opens: errors only.
fn must_survive(bytes: Vec<u8>) -> bool {
    let Ok(pack) = open(bytes) else { return false };
    let _ = pack.verify(&mut benben::ignore);
    for tensor in pack.tensors() {
        let _ = tensor.to_bytes();
        let _ = tensor.rows(0..1);
    }
    if let Ok(model) = PackedModel::new(pack) {
        let _ = model.files().iter().map(benben::SideFile::read).count();
    }
    true
}

#[test]
fn ten_thousand_random_inputs_to_the_index_reader_give_errors_only() {
    let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let (model, recipe) = small_model().unwrap();
    let pack = pack_to_memory(&model, &recipe).unwrap();
    let end = pack.len() - 64;
    let index = usize::try_from(u64::from_le_bytes(pack[end..end + 8].try_into().unwrap())).unwrap();
    let mut random = Random::new(1);
    let (mut opened, mut worst) = (0, 0);
    for round in 0..10_000 {
        let mut bytes = pack.clone();
        match round % 4 {
            // Noise in place of the whole index.
            0 => bytes[index..end].iter_mut().for_each(|b| *b = random.bits() as u8),
            // A few bytes changed anywhere in it.
            1 => (0..1 + random.below(8))
                .for_each(|_| bytes[index + random.below(end - index)] = random.bits() as u8),
            // A few bytes of the tables changed: they are at its end.
            2 => {
                let at = end - 1 - random.below((end - index) / 2);
                bytes[at] = random.bits() as u8;
            }
            // A length or count of the index header replaced.
            _ => {
                let at = index + 8 * random.below(5);
                let value = match random.below(3) {
                    0 => random.bits(),
                    1 => u64::MAX - random.bits() % 64,
                    _ => random.bits() % 5000,
                };
                bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
            }
        }
        repair(&mut bytes);
        let (survived, peak) = peak_of(|| must_survive(bytes));
        opened += usize::from(survived);
        worst = worst.max(peak);
    }
    println!("10,000 damaged indexes, {opened} of which still opened; most memory {worst} bytes");
    assert!(worst < MOST_MEMORY, "{worst} bytes in use");
}

/// The directory is compressed: damage of its CBOR is only reached when it is not.
#[test]
fn ten_thousand_damaged_directories_give_errors_only() {
    let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let (model, recipe) = small_model().unwrap();
    let pack = plain::directory(&pack_to_memory(&model, &recipe).unwrap());
    let end = pack.len() - 64;
    let index = usize::try_from(u64::from_le_bytes(pack[end..end + 8].try_into().unwrap())).unwrap();
    let stored = usize::try_from(u64::from_le_bytes(pack[index..index + 8].try_into().unwrap())).unwrap();
    assert!(open(pack.clone()).is_ok(), "the undamaged pack opens");
    let mut random = Random::new(2);
    let (mut opened, mut worst) = (0, 0);
    for _ in 0..10_000 {
        let mut bytes = pack.clone();
        for _ in 0..1 + random.below(4) {
            bytes[index + 40 + random.below(stored)] = random.bits() as u8;
        }
        repair(&mut bytes);
        let (survived, peak) = peak_of(|| must_survive(bytes));
        opened += usize::from(survived);
        worst = worst.max(peak);
    }
    println!("10,000 damaged directories, {opened} of which still opened; most memory {worst} bytes");
    assert!(opened > 0 && opened < 10_000, "some damage hits names only, some hits structure: {opened}");
    assert!(worst < MOST_MEMORY, "{worst} bytes in use");
}

/// Random bytes behind a good signature, and with none.
#[test]
fn noise_is_no_pack() {
    let mut random = Random::new(3);
    for round in 0..2000 {
        let mut bytes: Vec<u8> = (0..random.below(4096)).map(|_| random.bits() as u8).collect();
        if round % 2 == 0 && bytes.len() >= 8 {
            bytes[..8].copy_from_slice(&benben_format::layout::MAGIC);
        }
        assert!(open(bytes).is_err());
    }
}

#[test]
fn a_claim_beyond_the_limit_is_refused_before_it_is_allocated() {
    let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let zeros = MadeModel::new(&[("zeros", benben::Dtype::Bool, &[1 << 24])]);
    let pack = pack_to_memory(&zeros, &benben::Recipe::preset("lossless").unwrap()).unwrap();
    let opened = open(pack).unwrap();
    let (result, peak) = peak_of(|| opened.tensor("zeros").unwrap().to_bytes());
    let e = result.unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Limit, "{e}");
    assert!(peak < 1 << 16, "{peak} bytes in use to say no");
}

mod plain {
    /// The same pack with its directory stored uncompressed.
    pub(crate) fn directory(pack: &[u8]) -> Vec<u8> {
        let end = pack.len() - 64;
        let index = usize::try_from(u64::from_le_bytes(pack[end..end + 8].try_into().unwrap())).unwrap();
        let field = |at: usize| {
            usize::try_from(u64::from_le_bytes(pack[index + at..index + at + 8].try_into().unwrap())).unwrap()
        };
        let (stored, plain) = (field(0), field(8));
        let directory = zstd::bulk::decompress(&pack[index + 40..index + 40 + stored], plain).unwrap();
        let mut out = pack[..index].to_vec();
        out.extend_from_slice(&(directory.len() as u64).to_le_bytes());
        out.extend_from_slice(&(directory.len() as u64).to_le_bytes());
        out.extend_from_slice(&[0; 8]);
        out.extend_from_slice(&pack[index + 24..index + 40]);
        out.extend_from_slice(&directory);
        out.resize(index + 40 + directory.len().next_multiple_of(8), 0);
        out.extend_from_slice(&pack[index + 40 + stored.next_multiple_of(8)..end]);
        let index_len = out.len() - index;
        let total = out.len() + 64;
        out.extend_from_slice(&(index as u64).to_le_bytes());
        out.extend_from_slice(&(index_len as u64).to_le_bytes());
        out.extend_from_slice(&[0; 32]);
        out.extend_from_slice(&(total as u64).to_le_bytes());
        out.extend_from_slice(&pack[pack.len() - 8..]);
        // The header's length, and its checksum.
        out[40..48].copy_from_slice(&(total as u64).to_le_bytes());
        let crc = crc32c::crc32c(&out[..60]);
        out[60..64].copy_from_slice(&crc.to_le_bytes());
        super::repair(&mut out);
        out
    }
}
