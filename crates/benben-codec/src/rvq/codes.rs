//! Codes and codewords apart, for devices that add them up themselves.

use super::decode::{read_side, words};
use super::layout::Layout;
use super::stored;
use super::{CODEC, Params, VERSION};
use crate::entropy;
use benben_format::{ErrorKind, LeafSource, Result, in_memory};

/// A leaf before its codewords are added up.
///
/// Vector `v` (elements `v * dim ..`, the last may be cut) is the sum over the stages `s`, in this order, of codeword
/// `codes[s * vectors + v]` of codebook `groups[v % groups.len()] * stages + s`.
#[derive(Debug, Clone, PartialEq)]
pub struct Codes {
    /// Elements of a vector.
    pub dim: usize,
    /// Codewords that are added up.
    pub stages: usize,
    /// Number of vectors.
    pub vectors: usize,
    /// Group of the vector at each position of a row; one entry where there is one group.
    pub groups: Vec<u32>,
    /// Where each codebook begins in `words`, in elements.
    pub offsets: Vec<u32>,
    /// Codewords of all codebooks, one after the other.
    pub words: Vec<f32>,
    /// `[stages, vectors]`
    pub codes: Vec<u8>,
}

impl Codes {
    /// Reads the whole leaf; none where codewords would take more room than the values.
    ///
    /// # Errors
    /// As [`decode`](super::decode).
    pub fn read(source: &dyn LeafSource) -> Result<Option<Self>> {
        let spec = source.spec();
        crate::check_codec(spec, CODEC, VERSION)?;
        let params: Params = spec.params()?;
        let layout = Layout::new(&spec.shape, params.dim, params.groups, ErrorKind::Corruption)?;
        let side = read_side(source, &params, &layout)?;
        let (stages, count) = (usize::from(params.stages), layout.groups * usize::from(params.stages));
        let elements = in_memory(layout.elements)?;
        let vectors = elements.div_ceil(layout.dim);
        let per_row = in_memory(layout.per_row)?;
        if stages > layout.dim || vectors == 0 {
            return Ok(None);
        }
        let mut groups = vec![0; if layout.groups > 1 { per_row } else { 1 }];
        let (mut offsets, mut all) = (Vec::new(), Vec::new());
        let mut codes = vec![0; stages * vectors];
        let mut fits = true;
        stored::read(&side, layout.dim, count, params.mapped, |index, stage| {
            let (group, number) = (index / stages, index % stages);
            let mut own = vec![0; in_memory(layout.vectors(group))?];
            entropy::decode_symbols(source, index + 1, 0..own.len() as u64, &stage.model(), &mut own)?;
            let words = words(&stage, &own, index)?;
            fits &= all.len() + words.len() <= elements.max(1 << 12);
            if !fits {
                return Ok(());
            }
            offsets.push(all.len() as u32);
            all.extend(words);
            let mut rest = &own[..];
            for run in layout.runs(group, 0..vectors as u64) {
                let (here, others) = rest.split_at((run.end - run.start) as usize);
                rest = others;
                codes[number * vectors + run.start as usize..][..here.len()].copy_from_slice(here);
                if groups.len() > 1 && (run.end as usize) <= per_row {
                    groups[run.start as usize..run.end as usize].fill(group as u32);
                }
            }
            Ok(())
        })?;
        Ok(fits.then_some(Self { dim: layout.dim, stages, vectors, groups, offsets, words: all, codes }))
    }

    /// All values, added up in the order of the stages: `elements` of them.
    #[must_use]
    pub fn add_up(&self, elements: usize) -> Vec<f32> {
        let mut out = Vec::with_capacity(self.vectors * self.dim);
        for v in 0..self.vectors {
            let group = self.groups[v % self.groups.len()] as usize;
            let word = |s: usize| {
                let code = usize::from(self.codes[s * self.vectors + v]);
                self.offsets[group * self.stages + s] as usize + code * self.dim
            };
            out.extend((0..self.dim).map(|d| {
                (1..self.stages).fold(self.words[word(0) + d], |sum, s| sum + self.words[word(s) + d])
            }));
        }
        out.truncate(elements);
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Target;
    use crate::rvq::{Settings, decode, encode};

    #[test]
    fn codes_add_up_to_the_decoded_values() {
        let values: Vec<f32> = (0..64 * 96).map(|i| ((i * i % 977) as f32 * 0.37).sin()).collect();
        for (shape, bits) in [(vec![64, 96], 2.0), (vec![64, 96], 4.0), (vec![6144], 3.0)] {
            let (leaf, _) = encode(&values, &shape, &Settings::new(Target::BitsPerWeight(bits))).unwrap();
            let mut expected = vec![0.0; values.len()];
            decode(&leaf, 0..values.len() as u64, &mut expected).unwrap();
            let codes = Codes::read(&leaf).unwrap().unwrap();
            assert_eq!(codes.add_up(values.len()), expected, "{shape:?} at {bits} bits");
        }
    }
}
