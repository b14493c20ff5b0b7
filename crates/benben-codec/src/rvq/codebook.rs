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

/// Codewords that the search looks at together: one AVX-512 register, two of AVX2, four of SSE.
pub(super) const LANES: usize = 16;

/// A codebook transposed in blocks of [`LANES`] codewords, so that the inner loop runs over codewords.
///
/// The score of codeword c for a vector with query t is `bias[c] + sum_j t[j] * lane[j][c]`. Without weights
/// t = -2 r and the bias is |c|^2 plus the price of the symbol; with weights w the lanes hold c and c^2, and
/// t = (-2 w r, w). Either way the score is the weighted squared error less the constant w r^2.
#[derive(Debug)]
pub(super) struct Lookup {
    /// Elements of a query.
    pub(super) rows: usize,
    /// `rows` lanes of each block.
    pub(super) lanes: Vec<[f32; LANES]>,
    /// One for each block; that of the padding is infinite.
    pub(super) bias: Vec<[f32; LANES]>,
}

impl Lookup {
    /// The layout of `book`, `price[k]` being what it costs to send symbol `k`.
    pub(super) fn new(book: &Codebook, price: &[f32], weighted: bool) -> Self {
        let (dim, blocks) = (book.dim, book.len().div_ceil(LANES));
        let rows = if weighted { 2 * dim } else { dim };
        let mut lanes = vec![[0.0; LANES]; blocks * rows];
        let mut bias = vec![[f32::INFINITY; LANES]; blocks];
        for (k, word) in book.words.chunks_exact(dim).enumerate() {
            let (block, lane) = (k / LANES, k % LANES);
            let norm: f32 = word.iter().map(|c| c * c).sum();
            bias[block][lane] = price[k] + if weighted { 0.0 } else { norm };
            for (j, &c) in word.iter().enumerate() {
                lanes[block * rows + j][lane] = c;
                if weighted {
                    lanes[block * rows + dim + j][lane] = c * c;
                }
            }
        }
        Self { rows, lanes, bias }
    }
}
