//! Codewords of one stage, and their layout for the search.

/// Codewords of one stage and one group, one after the other.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Codebook {
    /// Elements of a codeword.
    pub(super) dim: usize,
    /// Codeword `k` is `words[k * dim ..][.. dim]`.
    pub(super) words: Vec<f32>,
}

impl Codebook {
    /// Number of codewords.
    pub(super) fn len(&self) -> usize {
        self.words.len() / self.dim
    }

    /// Codeword `k`.
    pub(super) fn word(&self, k: usize) -> &[f32] {
        &self.words[k * self.dim..][..self.dim]
    }
}

/// Codewords that the search looks at together: four SSE registers, two AVX registers.
const LANES: usize = 16;

/// A codebook transposed in blocks of [`LANES`] codewords, so that the inner loop runs over codewords.
///
/// The score of codeword c for a vector with query t is `bias[c] + sum_j t[j] * lane[j][c]`. Without weights
/// t = -2 r and the bias is |c|^2 plus the price of the symbol; with weights w the lanes hold c and c^2, and
/// t = (-2 w r, w). Either way the score is the weighted squared error less the constant w r^2.
#[derive(Debug)]
pub(super) struct Lookup {
    rows: usize,
    lanes: Vec<f32>,
    bias: Vec<f32>,
}

impl Lookup {
    /// The layout of `book`, `price[k]` being what it costs to send symbol `k`.
    pub(super) fn new(book: &Codebook, price: &[f32], weighted: bool) -> Self {
        let (dim, blocks) = (book.dim, book.len().div_ceil(LANES));
        let rows = if weighted { 2 * dim } else { dim };
        let mut lanes = vec![0.0; blocks * rows * LANES];
        let mut bias = vec![f32::INFINITY; blocks * LANES];
        for (k, word) in book.words.chunks_exact(dim).enumerate() {
            let block = &mut lanes[k / LANES * rows * LANES..][..rows * LANES];
            let norm: f32 = word.iter().map(|c| c * c).sum();
            bias[k] = price[k] + if weighted { 0.0 } else { norm };
            for (j, &c) in word.iter().enumerate() {
                block[j * LANES + k % LANES] = c;
                if weighted {
                    block[(dim + j) * LANES + k % LANES] = c * c;
                }
            }
        }
        Self { rows, lanes, bias }
    }

    /// Scores of all codewords for query `t`, those of the padding infinite.
    pub(super) fn score(&self, t: &[f32], scores: &mut Vec<f32>) {
        scores.resize(self.bias.len(), 0.0);
        let blocks = self.lanes.chunks_exact(self.rows * LANES);
        for ((block, bias), out) in
            blocks.zip(self.bias.as_chunks::<LANES>().0).zip(scores.as_chunks_mut::<LANES>().0)
        {
            let mut sum = *bias;
            for (&t, lane) in t.iter().zip(block.as_chunks::<LANES>().0) {
                for (s, &c) in sum.iter_mut().zip(lane) {
                    *s += t * c;
                }
            }
            *out = sum;
        }
    }

    /// Calls `found(codeword, score)` for every score below the bound that it returned last.
    pub(super) fn below(scores: &[f32], mut bound: f32, mut found: impl FnMut(usize, f32) -> f32) {
        for (i, block) in scores.as_chunks::<LANES>().0.iter().enumerate() {
            // One comparison without a branch per codeword: most blocks hold nothing.
            if block.iter().fold(false, |any, &s| any | (s < bound)) {
                for (l, &s) in block.iter().enumerate() {
                    if s < bound {
                        bound = found(i * LANES + l, s);
                    }
                }
            }
        }
    }
}
