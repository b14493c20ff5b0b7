//! Matrices that are sums of codewords (leaves of codec `rvq`): codewords are tuned as factors are, codes are chosen
//! anew.
//!
//! **Source**: PV-Tuning (Malinovskii et al., 2024, <https://arxiv.org/abs/2405.14852>): a V step moves the codewords by
//! their gradient, the codes being what they are; a P step moves the codes of a small share of vectors, those for which the
//! gradient says most, the codewords being what they are. There, steps are taken whatever they lead to; here a step that
//! does not lower the loss on held-out text is taken back, and the next is half as large.
//!
//! Of a vector with the gradient g, going from word w to word c changes the loss by `g (c - w) + k/2 |c - w|^2` with some
//! curvature k; the vectors chosen are those for which that is below 0 for the largest k.

use super::form::copied_leaf;
use super::parameter::Parameter;
use benben_codec::rvq::{self, Params, Part};
use benben_format::{EncodedLeaf, Reader, Result, StoredLeaf, in_memory};
use rayon::prelude::*;

/// Vectors whose gradients are added up first; fixed, so that no thread count changes a sum.
const BLOCK: usize = 1 << 14;
/// So many times the vectors that move, those with the largest gradients, are asked where they would go.
const ASKED: usize = 8;

/// A matrix of codewords.
#[derive(Debug, Clone)]
pub(super) struct Coded {
    /// As the pack has it, and its bytes.
    leaf: StoredLeaf,
    bytes: u64,
    /// Of the leaf.
    shape: [usize; 2],
    /// Vectors of a row; 0 where there is one group, whose vectors may cross rows.
    per_row: usize,
    /// Number of its first codebook among the parameters; the others follow.
    pub(super) first: usize,
    stages: Vec<Stage>,
}

/// One codebook's codes.
#[derive(Debug, Clone)]
struct Stage {
    dim: usize,
    /// Positions in a row of the vectors of the group.
    positions: std::ops::Range<usize>,
    step: f32,
    /// What the pack has.
    start: Vec<u8>,
    codes: Vec<u8>,
}

/// A vector that gets another codeword.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Move {
    /// Half the curvature up to which it pays.
    bears: f32,
    stage: u8,
    vector: u32,
    code: u8,
}

impl Coded {
    /// The leaf, with its codebooks as parameters of which the first gets the number `first`; none where the leaf has no
    /// codewords of its own.
    pub(super) fn new(
        leaf: &StoredLeaf,
        reader: &Reader,
        first: usize,
    ) -> Result<Option<(Self, Vec<Parameter>)>> {
        let &[rows, columns] = leaf.spec.shape.as_slice() else { return Ok(None) };
        if leaf.spec.codec != rvq::CODEC || leaf.spec.params::<Params>()?.mapped {
            return Ok(None);
        }
        let (dim, groups, _) = rvq::extent(&leaf.spec)?;
        let (rows, columns) = (in_memory(rows)?, in_memory(columns)?);
        let per_row = if groups == 1 { 0 } else { columns / dim };
        let (mut stages, mut books) = (Vec::new(), Vec::new());
        for Part { dim, positions, words, codes, step } in rvq::parts(&reader.leaf(leaf))? {
            let positions = in_memory(positions.start)?..in_memory(positions.end)?;
            let shape = [words.len() / dim, dim];
            books.push(Parameter::words(shape, words, step));
            stages.push(Stage { dim, positions, step, start: codes.clone(), codes });
        }
        let bytes = copied_leaf(leaf, reader)?.stored_bytes();
        Ok(Some((Self { leaf: leaf.clone(), bytes, shape: [rows, columns], per_row, first, stages }, books)))
    }

    /// Rows and columns of the leaf.
    pub(super) fn shape(&self) -> [usize; 2] {
        self.shape
    }

    /// The values of the leaf with these words, those of all its codebooks.
    pub(super) fn values(&self, words: &[Vec<f32>]) -> Vec<f32> {
        let mut out = vec![0.0; self.shape[0] * self.shape[1]];
        for (stage, words) in self.stages.iter().zip(words) {
            let add = |out: &mut [f32], code: u8| {
                let word = &words[usize::from(code) * stage.dim..][..stage.dim];
                out.iter_mut().zip(word).for_each(|(o, w)| *o += w);
            };
            if self.per_row == 0 {
                out.par_chunks_mut(BLOCK * stage.dim).zip(stage.codes.par_chunks(BLOCK)).for_each(
                    |(out, codes)| {
                        out.chunks_mut(stage.dim).zip(codes).for_each(|(out, &code)| add(out, code));
                    },
                );
            } else {
                for (i, &code) in stage.codes.iter().enumerate() {
                    let at = stage.vector(i, self.per_row) * stage.dim;
                    add(&mut out[at..], code);
                }
            }
        }
        out
    }

    /// What a gradient by the values says of the words of each codebook.
    pub(super) fn by_words(&self, gradient: &[f32], sizes: &[usize]) -> Vec<Vec<f32>> {
        let of = |(stage, &size): (&Stage, &usize)| {
            let block = |(block, codes): (usize, &[u8])| {
                let mut sums = vec![0.0f32; size];
                for (i, &code) in codes.iter().enumerate() {
                    let sum = &mut sums[usize::from(code) * stage.dim..][..stage.dim];
                    let found = stage.of(gradient, block * BLOCK + i, self.per_row);
                    sum.iter_mut().zip(found).for_each(|(sum, g)| *sum += g);
                }
                sums
            };
            let parts: Vec<Vec<f32>> = stage.codes.par_chunks(BLOCK).enumerate().map(block).collect();
            parts.into_iter().fold(vec![0.0; size], |mut sum, part| {
                sum.iter_mut().zip(part).for_each(|(sum, x)| *sum += x);
                sum
            })
        };
        self.stages.iter().zip(sizes).map(of).collect()
    }

    /// Gives the share `share` of its vectors, one at least, the codes that the gradient by its values asks for most: fewer,
    /// or none, where the leaf would become larger by more than `growth` of its bytes in the pack.
    pub(super) fn step(
        &mut self,
        gradient: &[f32],
        books: &[Parameter],
        (share, growth): (f32, f32),
        reader: &Reader,
    ) -> Result<()> {
        let vectors = self.stages.iter().map(|s| s.codes.len()).max().unwrap_or(0);
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a share of what is in memory"
        )]
        let mut count = ((vectors as f32 * share.clamp(0.0, 1.0)) as usize).max(1);
        let moves = self.moves(gradient, books, count);
        let most = self.bytes as f64 * (1.0 + f64::from(growth));
        let before: Vec<Vec<u8>> = self.stages.iter().map(|s| s.codes.clone()).collect();
        while count > 0 {
            for m in moves.iter().take(count) {
                self.stages[usize::from(m.stage)].codes[m.vector as usize] = m.code;
            }
            if self.leaf(books, reader)?.stored_bytes() as f64 <= most {
                break;
            }
            self.stages.iter_mut().zip(&before).for_each(|(stage, codes)| stage.codes.clone_from(codes));
            count /= 2;
        }
        Ok(())
    }

    /// At most `count` moves, those that bear most first; a vector moves in one stage only, since what a move changes is
    /// asked with all other stages standing still.
    fn moves(&self, gradient: &[f32], books: &[Parameter], count: usize) -> Vec<Move> {
        let mut moves: Vec<Move> = Vec::new();
        for (number, (stage, book)) in self.stages.iter().zip(books).enumerate() {
            let found = stage.moves(gradient, self.per_row, &book.stored(), count.saturating_mul(ASKED));
            moves.extend(found.into_iter().map(|m| Move { stage: number as u8, ..m }));
        }
        moves.sort_unstable_by(|a, b| {
            b.bears.total_cmp(&a.bears).then((a.vector, a.stage).cmp(&(b.vector, b.stage)))
        });
        let mut moved = std::collections::HashSet::new();
        let vector = |m: &Move| self.stages[usize::from(m.stage)].vector(m.vector as usize, self.per_row);
        moves.retain(|m| moved.len() < count && moved.insert(vector(m)));
        moves
    }

    /// Codes of all stages, one after the other.
    pub(super) fn codes(&self) -> impl Iterator<Item = u8> {
        self.stages.iter().flat_map(|s| s.codes.iter().copied())
    }

    /// Number of them.
    pub(super) fn count(&self) -> usize {
        self.stages.iter().map(|s| s.codes.len()).sum()
    }

    /// Takes codes as [`codes`](Self::codes) gives them; false, and nothing is changed, where one has no codeword.
    pub(super) fn set(&mut self, codes: &[u8], sizes: &[usize]) -> bool {
        let mut rest = codes;
        for (stage, size) in self.stages.iter().zip(sizes) {
            let Some((own, after)) = rest.split_at_checked(stage.codes.len()) else { return false };
            if own.iter().any(|&c| (usize::from(c) + 1) * stage.dim > *size) {
                return false;
            }
            rest = after;
        }
        if !rest.is_empty() {
            return false;
        }
        let mut rest = codes;
        for stage in &mut self.stages {
            let (own, after) = rest.split_at(stage.codes.len());
            stage.codes.copy_from_slice(own);
            rest = after;
        }
        true
    }

    /// The leaf with codes and codewords as they are now.
    pub(super) fn leaf(&self, books: &[Parameter], reader: &Reader) -> Result<EncodedLeaf> {
        let same = self.stages.iter().all(|s| s.codes == s.start) && !books.iter().any(Parameter::changed);
        if same {
            return copied_leaf(&self.leaf, reader);
        }
        let part = |(stage, book): (&Stage, &Parameter)| Part {
            dim: stage.dim,
            positions: stage.positions.start as u64..stage.positions.end as u64,
            words: book.stored(),
            codes: stage.codes.clone(),
            step: stage.step,
        };
        let parts: Vec<Part> = self.stages.iter().zip(books).map(part).collect();
        rvq::revise(&reader.leaf(&self.leaf), &parts)
    }

    /// How many codebooks it has.
    pub(super) fn books(&self) -> usize {
        self.stages.len()
    }
}

impl Stage {
    /// The number in the leaf of vector `i` of the group.
    fn vector(&self, i: usize, per_row: usize) -> usize {
        let count = self.positions.len();
        if per_row == 0 { i } else { i / count * per_row + self.positions.start + i % count }
    }

    /// What belongs to vector `i` of the group; of the last vector, as much as there is.
    fn of<'a>(&self, values: &'a [f32], i: usize, per_row: usize) -> &'a [f32] {
        let at = self.vector(i, per_row) * self.dim;
        &values[at..values.len().min(at + self.dim)]
    }

    /// Where the `most` vectors with the largest gradients would go.
    fn moves(&self, gradient: &[f32], per_row: usize, words: &[f32], most: usize) -> Vec<Move> {
        let square = |i: usize| self.of(gradient, i, per_row).iter().map(|g| g * g).sum::<f32>();
        let squares: Vec<f32> = (0..self.codes.len()).into_par_iter().map(square).collect();
        let mut asked: Vec<u32> = (0..self.codes.len() as u32).collect();
        let larger = |a: &u32, b: &u32| squares[*b as usize].total_cmp(&squares[*a as usize]).then(a.cmp(b));
        if most < asked.len() {
            asked.select_nth_unstable_by(most, larger);
            asked.truncate(most);
        }
        let size = words.len() / self.dim;
        let word = |code: usize| &words[code * self.dim..][..self.dim];
        let apart = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum::<f32>();
        let apart: Vec<f32> = (0..size * size).map(|i| apart(word(i / size), word(i % size))).collect();
        let best = |&vector: &u32| {
            let g = self.of(gradient, vector as usize, per_row);
            let from = usize::from(self.codes[vector as usize]);
            let dot = |code: usize| g.iter().zip(word(code)).map(|(g, w)| g * w).sum::<f32>();
            let here = dot(from);
            let mut best: Option<(f32, usize)> = None;
            for code in 0..size {
                let apart = apart[from * size + code];
                let bears = (here - dot(code)) / apart;
                // Equal words are no move, whatever 0 / 0 is.
                if apart > 0.0 && bears > best.map_or(0.0, |b| b.0) {
                    best = Some((bears, code));
                }
            }
            best.map(|(bears, code)| Move { bears, stage: 0, vector, code: code as u8 })
        };
        asked.par_iter().filter_map(best).collect()
    }
}
