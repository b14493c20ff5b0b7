//! A pack reads what it needs and nothing else.

use benben::{Dtype, Limits, Pack};
use benben_format::layout::TAIL_READ;
use benben_tests::counting::{CountingSource, total};
use benben_tests::model::{MadeModel, pack_to_memory, recipe_with};

fn pack_of(tensors: usize, shape: &[u64], method: &str) -> (std::sync::Arc<CountingSource>, Pack) {
    let names: Vec<String> = (0..tensors).map(|i| format!("a.tensor.with.quite.a.long.name.{i}")).collect();
    let tensors: Vec<_> = names.iter().map(|n| (n.as_str(), Dtype::F32, shape)).collect();
    let bytes = pack_to_memory(&MadeModel::new(&tensors), &recipe_with(method).unwrap()).unwrap();
    let counting = CountingSource::new(bytes);
    let pack = Pack::from_source(counting.source(), Limits::default()).unwrap();
    (counting, pack)
}

#[test]
fn opening_reads_at_most_64_kib_and_the_index() {
    for (tensors, shape) in [(1, [2, 2]), (20, [64, 1024]), (3000, [2, 3])] {
        let (counting, pack) = pack_of(tensors, &shape, "scalar:4");
        let read = total(&counting.take());
        println!(
            "{tensors} tensors, pack {} bytes, index {}: read {read}",
            pack.reader().len(),
            pack.reader().index_bytes()
        );
        assert!(read <= TAIL_READ + pack.reader().index_bytes());
    }
}

#[test]
fn reading_a_tensor_reads_its_segments_and_nothing_else() {
    for method in ["raw", "scalar:4", "pvq:3", "rvq:2", "ternary:3"] {
        let (counting, pack) = pack_of(6, &[64, 1024], method);
        for tensor in pack.tensors() {
            counting.take();
            tensor.to_f32().unwrap();
            let allowed: Vec<_> = tensor
                .entry()
                .expr
                .leaves()
                .into_iter()
                .map(|leaf| {
                    let end = pack.reader().segment_end(leaf);
                    end - pack.reader().segment(leaf).len..end
                })
                .collect();
            for read in counting.take() {
                let inside = allowed.iter().any(|a| a.start <= read.start && read.end <= a.end);
                assert!(inside, "{method}: {read:?} is outside of {allowed:?}");
            }
        }
    }
}

#[test]
fn reading_a_row_reads_only_the_chunks_that_cover_it() {
    let (counting, pack) = pack_of(1, &[2048, 1024], "scalar:4");
    let tensor = pack.tensors().next().unwrap();
    counting.take();
    let whole = tensor.to_f32().unwrap();
    let all = total(&counting.take());
    let row = tensor.rows(700..701).unwrap();
    let one = total(&counting.take());
    println!("whole tensor {all} bytes, one row {one} bytes");
    assert_eq!(row, whole[700 * 1024..701 * 1024]);
    assert!(one * 4 < all, "one row of 2048 read {one} of {all} bytes");
}

/// Memory, a file read by copies and a mapped file give the same values.
#[test]
fn every_source_gives_the_same() {
    let model = MadeModel::new(&[("a.weight", Dtype::F32, &[64, 256]), ("b", Dtype::I64, &[7])]);
    let bytes = pack_to_memory(&model, &recipe_with("scalar:4").unwrap()).unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::io::Write::write_all(&mut file.as_file(), &bytes).unwrap();
    let copied = benben_format::FileSource::open(file.path()).unwrap();
    let packs = [
        Pack::from_source(std::sync::Arc::new(bytes), Limits::default()).unwrap(),
        Pack::from_source(std::sync::Arc::new(copied), Limits::default()).unwrap(),
        Pack::open(file.path()).unwrap(),
    ];
    for name in ["a.weight", "b"] {
        let values = packs.each_ref().map(|p| p.tensor(name).unwrap().to_bytes().unwrap());
        assert!(values[0] == values[1] && values[1] == values[2], "{name}");
    }
}
