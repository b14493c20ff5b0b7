//! An `rvq` leaf as a kernel takes it: codes of vectors, and codewords that it adds up.

use benben_codec::rvq;
use benben_format::{Error, LeafSource, Result, in_memory};

/// Vector `v` (elements `v * dim ..`, the last may be cut) is the sum over the stages `s`, in this order, of codeword
/// `codes[s * vectors + v]` of codebook `groups[v % groups.len()] * stages + s`.
pub(super) struct Sums {
    pub(super) dim: usize,
    pub(super) stages: usize,
    pub(super) vectors: usize,
    /// Group of the vector at each position of a row; one entry where there is one group.
    pub(super) groups: Vec<u32>,
    /// Where each codebook begins in `words`.
    pub(super) offsets: Vec<u32>,
    pub(super) words: Vec<f32>,
    /// `[stages, vectors]`
    pub(super) codes: Vec<u8>,
}

impl Sums {
    /// Reads the whole leaf; none where codes would take more room than values.
    pub(super) fn read(source: &dyn LeafSource) -> Result<Option<Self>> {
        let elements = in_memory(source.spec().elements()?)?;
        let (dim, groups, stages) = rvq::extent(source.spec())?;
        let (groups, stages) = (usize::from(groups), usize::from(stages));
        let vectors = elements.div_ceil(dim);
        if vectors == 0 || stages >= 4 * dim {
            return Ok(None);
        }
        let parts = rvq::parts(source)?;
        let per_row = match parts.last() {
            Some(part) if groups > 1 => in_memory(part.positions.end)?,
            _ => 1,
        };
        let mut sums = Self {
            dim,
            stages,
            vectors,
            groups: vec![0; per_row],
            offsets: Vec::with_capacity(parts.len()),
            words: Vec::new(),
            codes: vec![0; stages * vectors],
        };
        for (index, part) in parts.into_iter().enumerate() {
            let (group, stage) = (index / stages, index % stages);
            let index =
                |n: usize| u32::try_from(n).map_err(|_| Error::limit("codewords of more than 2^32 elements"));
            sums.offsets.push(index(sums.words.len())?);
            sums.words.extend(part.words);
            let codes = &mut sums.codes[stage * vectors..(stage + 1) * vectors];
            if groups == 1 {
                codes.copy_from_slice(&part.codes);
                continue;
            }
            let positions = in_memory(part.positions.start)?..in_memory(part.positions.end)?;
            let own = part.codes.chunks(positions.len().max(1));
            for (row, own) in codes.chunks_mut(per_row).zip(own) {
                row[positions.clone()].copy_from_slice(own);
            }
            sums.groups[positions].fill(index(group)?);
        }
        Ok(Some(sums))
    }

    /// All values on the processor, the kernel's twin.
    #[cfg(test)]
    pub(super) fn add_up(&self, elements: usize) -> Vec<f32> {
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
    use benben_codec::Target;

    #[test]
    fn codes_add_up_to_the_decoded_values() {
        let values: Vec<f32> = (0..64 * 96).map(|i| ((i * i % 977) as f32 * 0.37).sin()).collect();
        for (shape, bits) in [(vec![64, 96], 2.0), (vec![64, 96], 4.0), (vec![6144], 3.0)] {
            let settings = rvq::Settings::new(Target::BitsPerWeight(bits));
            let (leaf, _) = rvq::encode(&values, &shape, &settings).unwrap();
            let mut expected = vec![0.0; values.len()];
            benben_codec::decode(&leaf, 0..values.len() as u64, &mut expected).unwrap();
            let sums = Sums::read(&leaf).unwrap().unwrap();
            assert_eq!(sums.add_up(values.len()), expected, "{shape:?} at {bits} bits");
        }
    }
}
