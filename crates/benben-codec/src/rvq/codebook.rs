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
    pub(super) fn score(&self, t: &[f32], scores: &mut Scores) {
        scores.all.resize(self.bias.len(), 0.0);
        scores.least.resize(self.bias.len() / LANES, 0.0);
        let blocks = self.lanes.chunks_exact(self.rows * LANES).zip(self.bias.as_chunks::<LANES>().0);
        let out = scores.all.as_chunks_mut::<LANES>().0.iter_mut().zip(&mut scores.least);
        for ((block, bias), (out, least)) in blocks.zip(out) {
            let mut sum = *bias;
            for (&t, lane) in t.iter().zip(block.as_chunks::<LANES>().0) {
                for (s, &c) in sum.iter_mut().zip(lane) {
                    *s += t * c;
                }
            }
            *out = sum;
            *least = minimum(&sum);
        }
    }
}

/// Scores of one query.
#[derive(Debug, Default)]
pub(super) struct Scores {
    all: Vec<f32>,
    /// The least of each block.
    least: Vec<f32>,
}

impl Scores {
    /// Takes the codeword of the least score, if that is below `bound`. A beam asks for only a few, so this is
    /// faster than keeping a list sorted while scanning, whose branches nobody can foresee.
    pub(super) fn take_below(&mut self, bound: f32) -> Option<(usize, f32)> {
        let (mut block, mut least) = (0, bound);
        for (i, &here) in self.least.iter().enumerate() {
            (block, least) = if here < least { (i, here) } else { (block, least) };
        }
        if least < bound {
            let scores = &mut self.all.as_chunks_mut::<LANES>().0[block];
            let lane = scores.iter().position(|&s| s == least)?;
            scores[lane] = f32::INFINITY;
            self.least[block] = minimum(scores);
            return Some((block * LANES + lane, least));
        }
        None
    }
}

/// The least of a block: halved again and again, which takes four vector minima instead of sixteen comparisons.
fn minimum(block: &[f32; LANES]) -> f32 {
    let mut least = *block;
    let mut half = LANES / 2;
    while half > 0 {
        for i in 0..half {
            least[i] = if least[i + half] < least[i] { least[i + half] } else { least[i] };
        }
        half /= 2;
    }
    least[0]
}
