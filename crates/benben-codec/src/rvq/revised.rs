//! A leaf again, with codewords that were tuned and codes that were chosen elsewhere.

use super::codebook::Codebook;
use super::decode::{Part, extent};
use super::layout::Layout;
use super::stored::{self, Stage};
use super::{CODEC, Params, VERSION};
use crate::entropy;
use benben_format::{Dtype, EncodedLeaf, Error, ErrorKind, LeafSource, LeafSpec, Result};

/// Codes the `parts` of the leaf `source`, changed in codewords and codes, as a leaf of the same layout. Entries of
/// codewords go to the nearest multiple of their [`step`](Part::step); codewords that no vector has any more are left out,
/// equal ones become one.
///
/// # Errors
/// InvalidArgument where `parts` are not those of the leaf, have codes without a codeword, or codewords that are no numbers;
/// Unsupported for mapped codebooks, whose entries are not codewords; otherwise as [`parts`](super::parts).
pub fn revise(source: &dyn LeafSource, parts: &[Part]) -> Result<EncodedLeaf> {
    let spec = source.spec();
    let (dim, groups, count) = extent(spec)?;
    if spec.params::<Params>()?.mapped {
        return Err(Error::unsupported("rvq: codewords of a mapped codebook cannot be set one by one"));
    }
    let layout = Layout::new(&spec.shape, dim as u8, groups, ErrorKind::Corruption)?;
    let per_group = usize::from(count).max(1);
    if parts.len() != layout.groups * per_group {
        return Err(Error::invalid(format!(
            "rvq: {} parts for {} codebooks",
            parts.len(),
            layout.groups * per_group
        )));
    }
    let mut stages = Vec::with_capacity(parts.len());
    let mut streams = Vec::with_capacity(parts.len());
    for (index, part) in parts.iter().enumerate() {
        let chunk_items = spec.streams.get(index + 1).map_or(entropy::CHUNK_ITEMS, |s| s.chunk_items);
        let vectors = layout.vectors(index / per_group);
        let (stage, symbols) =
            stage(part, dim, vectors).map_err(|e| e.context(format!("codebook {index}")))?;
        let stage = with_table(stage, &symbols, chunk_items);
        streams.push(entropy::encode_symbols(&symbols, &stage.model(), chunk_items)?);
        stages.push(stage);
    }
    let side = stored::write(&stages)?;
    let most = stored::most_bytes(&layout, count, false);
    if side.len() as u64 > most {
        return Err(Error::invalid(format!(
            "rvq: codebooks take {} bytes, at most {most} allowed",
            side.len()
        )));
    }
    let params = Params { dim: dim as u8, groups, stages: count, mapped: false };
    let mut leaf = EncodedLeaf::new(LeafSpec::new(CODEC, VERSION, Dtype::F32, &spec.shape, &params)?);
    let (spec, chunks) = entropy::encode_bytes(&side, 1, entropy::CHUNK_ITEMS)?;
    leaf.push(spec, chunks);
    streams.into_iter().for_each(|(spec, chunks)| leaf.push(spec, chunks));
    Ok(leaf)
}

/// The codebook as it is stored, and the codes as numbers of its words.
fn stage(part: &Part, dim: usize, vectors: u64) -> Result<(Stage, Vec<u8>)> {
    let size = part.words.len() / dim;
    let whole = part.dim == dim && part.words.len() == size * dim && (1..=256).contains(&size);
    if !whole || part.codes.len() as u64 != vectors {
        return Err(Error::invalid(format!(
            "rvq: {} codes for {vectors} vectors, {} entries of codewords of {dim}",
            part.codes.len(),
            part.words.len()
        )));
    }
    if !(part.step > 0.0 && part.step.is_finite()) || part.words.iter().any(|w| !w.is_finite()) {
        return Err(Error::invalid("rvq: codewords and their step have to be numbers"));
    }
    let mut counts = vec![0; size];
    for &code in &part.codes {
        let missing = || Error::invalid(format!("rvq: code {code}, the codebook has {size} words"));
        *counts.get_mut(usize::from(code)).ok_or_else(missing)? += 1;
    }
    let stage = Stage::quantize(&Codebook { dim, words: part.words.clone() }, &counts, part.step);
    // Where each word has gone; one that nobody has goes nowhere, and nobody asks.
    let words: Vec<&[i32]> = stage.entries.chunks_exact(dim).collect();
    let place = |word: &[f32]| {
        let word = Stage::entries_of(word, part.step);
        words.binary_search(&word.as_slice()).unwrap_or(0) as u8
    };
    let places: Vec<u8> = part.words.chunks_exact(dim).map(place).collect();
    let symbols = part.codes.iter().map(|&code| places[usize::from(code)]).collect();
    Ok((stage, symbols))
}

fn with_table(mut stage: Stage, symbols: &[u8], chunk_items: u32) -> Stage {
    let mut counts = vec![0; stage.len()];
    symbols.iter().for_each(|&s| counts[usize::from(s)] += 1);
    stage.choose_table(&counts, chunk_items);
    stage
}

#[cfg(test)]
mod tests {
    use super::super::{Settings, decode, encode, parts};
    use super::*;
    use crate::Target;
    use proptest::prelude::*;

    fn values(leaf: &EncodedLeaf) -> Vec<f32> {
        let mut out = vec![0.0; leaf.spec.elements().unwrap() as usize];
        decode(leaf, 0..out.len() as u64, &mut out).unwrap();
        out
    }

    fn made(rows: u64, columns: u64, dim: u8, groups: u16, seed: u32) -> EncodedLeaf {
        let mut state = u64::from(seed);
        let mut random = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
        };
        let x: Vec<f32> = (0..rows * columns).map(|_| random() + random()).collect();
        let usual = Settings::new(Target::BitsPerWeight(3.0));
        let settings =
            Settings { dim: Some(dim), groups, mapped: Some(false), beam: 1, iterations: 2, ..usual };
        encode(&x, &[rows, columns], &settings).unwrap().0
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn what_is_revised_decodes_to_the_sums_of_its_parts(
            (rows, columns) in (1u64..30, 4u64..20),
            (dim, groups) in (1u8..5, 1u16..3),
            seed: u32,
            moves in proptest::collection::vec((any::<u16>(), any::<u8>(), -3i8..4), 0..40),
        ) {
            let columns = columns * u64::from(dim);
            let leaf = made(rows, columns, dim, groups, seed);
            let mut all = parts(&leaf).unwrap();
            prop_assert_eq!(values(&revise(&leaf, &all).unwrap()), values(&leaf));
            let count = all.len();
            for (at, code, by) in moves {
                let part = &mut all[usize::from(at) % count];
                let size = part.words.len() / part.dim;
                let vector = usize::from(at) % part.codes.len();
                part.codes[vector] = (usize::from(code) % size) as u8;
                let entry = usize::from(code) % part.words.len();
                // Words stay multiples of the step, so that sums are exact.
                part.words[entry] = ((part.words[entry] / part.step).round() + f32::from(by)) * part.step;
            }
            let again = revise(&leaf, &all).unwrap();
            let mut expected = vec![0f32; (rows * columns) as usize];
            let width = usize::from(dim);
            let per_row = (columns as usize) / width;
            for part in &all {
                let length = (part.positions.end - part.positions.start) as usize;
                for (i, &code) in part.codes.iter().enumerate() {
                    let vector = match groups {
                        1 => i,
                        _ => i / length * per_row + part.positions.start as usize + i % length,
                    };
                    let word = &part.words[usize::from(code) * width..][..width];
                    expected[vector * width..][..width].iter_mut().zip(word).for_each(|(o, w)| *o += w);
                }
            }
            prop_assert_eq!(values(&again), expected);
        }
    }

    #[test]
    fn parts_of_another_leaf_are_refused() {
        let leaf = made(8, 16, 2, 1, 7);
        let good = parts(&leaf).unwrap();
        let refused = |change: &dyn Fn(&mut Vec<Part>)| {
            let mut parts = good.clone();
            change(&mut parts);
            assert_eq!(revise(&leaf, &parts).unwrap_err().kind(), ErrorKind::InvalidArgument);
        };
        refused(&|parts| parts.truncate(parts.len() - 1));
        refused(&|parts| parts[0].codes.truncate(3));
        refused(&|parts| parts[0].words.truncate(3));
        refused(&|parts| parts[0].words[0] = f32::NAN);
        refused(&|parts| parts[0].codes[0] = 255);
        refused(&|parts| parts[0].step = 0.0);
    }
}
