//! Codebooks for more vectors than anyone wants to pass over many times.
//!
//! Source: minibatch k-means (Sculley, "Web-scale k-means clustering", WWW 2010): each batch moves the codewords that it
//! uses by the mean of what is left of its vectors, times the share that these have of all that were seen; here what was
//! seen is forgotten by half with every batch while the codewords still travel. At the end come exact passes: every
//! vector is assigned, and codewords become the means of theirs. On half a million vectors of dimension 8 with two stages of
//! 256 codewords this leaves 0.997 of the distortion of 40 rounds of Lloyd's iteration (`examples/rvq_training.rs`): what
//! batches shake loose finds better minima.
//!
//! Memory beside the vectors: one copy for the residuals, one byte for each vector of a slab. Sums are added block by
//! block in a fixed order, so that neither threads nor slabs change a codeword.

use super::codebook::Codebook;
use super::kmeans;
use super::random::Random;
use super::search;
use super::settings::{MAX_DIM, MAX_STAGES};
use super::train::{Data, Quantizer};
use benben_format::{Error, Result};

/// Vectors that an exact pass codes at a time; a multiple of the blocks that sums are made of.
const SLAB: usize = 1 << 18;
/// Batches, of those that there are, in which codewords still travel.
const TRAVEL: f64 = 0.75;
/// Share of what was seen that such a batch keeps.
const KEPT: f64 = 0.5;
/// Batches after which codewords without vectors move to the worst ones.
const RESEEDS: usize = 3;
/// Vectors for each codeword that seeding looks at.
const SEEDING: usize = 64;

/// How codebooks are trained.
#[derive(Debug, Clone, Copy)]
pub struct Training {
    /// Batches of each stage.
    pub batches: u16,
    /// Vectors of a batch, at least 1.
    pub batch: usize,
    /// Exact passes over all vectors after the batches. Without batches this is Lloyd's iteration on everything.
    pub passes: u16,
    /// Seed of the batches and of the first codewords.
    pub seed: u64,
}

impl Default for Training {
    /// 128 batches of 32 Ki vectors, then one exact pass: no worse than 40 rounds of Lloyd's iteration.
    fn default() -> Self {
        Self { batches: 128, batch: 1 << 15, passes: 1, seed: 0 }
    }
}

impl Training {
    /// Lloyd's iteration, `rounds` times over everything.
    pub fn lloyd(rounds: u16) -> Self {
        Self { batches: 0, passes: rounds, ..Self::default() }
    }
}

/// Codebooks of all stages, each of which refines what those before it leave.
#[derive(Debug, Clone, PartialEq)]
pub struct Codebooks {
    stages: Vec<Codebook>,
    distortion: f64,
}

impl Codebooks {
    /// Codewords of each stage, the first stage first: each `size * dim` elements.
    pub fn stages(&self) -> impl Iterator<Item = &[f32]> {
        self.stages.iter().map(|book| &book.words[..])
    }

    /// Mean squared error of an element of the vectors that they were trained on, each stage searched by itself.
    pub fn distortion(&self) -> f64 {
        self.distortion
    }

    /// Mean squared error of an element of `values`, whole vectors, with `beam` paths kept (1 to 8).
    ///
    /// # Errors
    /// [`InvalidArgument`](benben_format::ErrorKind::InvalidArgument) for a cut vector and for another beam.
    pub fn error(&self, values: &[f32], beam: u8) -> Result<f64> {
        let dim = self.stages[0].dim;
        let beam = usize::from(beam);
        if !values.len().is_multiple_of(dim) || !(1..=search::MAX_BEAM).contains(&beam) {
            let len = values.len();
            return Err(Error::invalid(format!("rvq: {len} elements in vectors of {dim}, beam {beam}")));
        }
        let bits: Vec<Vec<f32>> = self.stages.iter().map(|book| vec![0.0; book.len()]).collect();
        let quantizer = Quantizer { books: self.stages.clone(), bits, maps: Vec::new() };
        let slab = |values: &[f32]| {
            let data = Data { dim, values: values.to_vec(), weights: Vec::new() };
            kmeans::distortion(&quantizer.search(&data, 0.0, beam).residuals, &[])
        };
        let sum: f64 = values.chunks(SLAB * dim).map(slab).sum();
        Ok(sum / values.len().max(1) as f64)
    }
}

/// Trains codebooks of `sizes` (1 to 256 codewords each, 1 to 16 stages) on vectors of `dim` (1 to 64) consecutive
/// elements of `values`.
///
/// ```
/// use benben_codec::rvq::{Training, train_codebooks};
/// let values: Vec<f32> = (0..4096).map(|i| (i as f32 * 0.37).sin()).collect();
/// let books = train_codebooks(&values, 2, &[16, 16], &Training::default())?;
/// assert!(books.distortion() < 0.005 && books.error(&values, 8)? <= books.distortion());
/// # Ok::<(), benben_format::Error>(())
/// ```
///
/// # Errors
/// [`InvalidArgument`](benben_format::ErrorKind::InvalidArgument) for sizes out of range, a vector that is cut, and values
/// that are not finite.
pub fn train_codebooks(values: &[f32], dim: u8, sizes: &[u16], training: &Training) -> Result<Codebooks> {
    let good = (1..=MAX_DIM).contains(&dim)
        && (1..=MAX_STAGES).contains(&sizes.len())
        && sizes.iter().all(|size| (1..=256).contains(size))
        && training.batch > 0;
    let dim = usize::from(dim);
    if !good || values.is_empty() || !values.len().is_multiple_of(dim) {
        return Err(Error::invalid(format!(
            "rvq: codebooks of {sizes:?} words of {dim} from {} elements in batches of {}",
            values.len(),
            training.batch
        )));
    }
    crate::checks::check_finite(values, &[values.len() as u64])?;
    let mut random = Random::new(training.seed);
    let mut rest = Data { dim, values: values.to_vec(), weights: Vec::new() };
    let mut stages = Vec::new();
    let mut distortion = 0.0;
    for &size in sizes {
        let mut book = batches(&rest, size.into(), training, &mut random);
        for _ in 0..training.passes {
            pass(&rest, &mut book);
        }
        distortion = subtract(&mut rest, &book);
        stages.push(book);
    }
    Ok(Codebooks { stages, distortion: distortion / values.len() as f64 })
}

/// One codebook from batches alone.
fn batches(rest: &Data, size: usize, training: &Training, random: &mut Random) -> Codebook {
    let first = rest.sample(training.batch.max(1).min(SEEDING * size), random);
    let mut one = unpriced(kmeans::seed(&first.vectors(), size, random));
    let mut seen = vec![0.0; 2 * size * rest.dim];
    for round in 0..usize::from(training.batches) {
        let batch = rest.sample(training.batch, random);
        let coded = one.search(&batch, 0.0, 1);
        let counts = one.counts(&coded);
        let travels = (round as f64) < TRAVEL * f64::from(training.batches);
        let sums = kmeans::sums(&batch.vectors(), &coded.codes, 1, 0, size, &coded.residuals);
        kmeans::nudge(&mut one.books[0], &sums, &mut seen, if travels { KEPT } else { 1.0 });
        if round < RESEEDS {
            kmeans::reseed(&batch.vectors(), &counts[0], &mut one.books[0], &coded.residuals);
        }
    }
    one.books.swap_remove(0)
}

fn unpriced(book: Codebook) -> Quantizer {
    Quantizer { bits: vec![vec![0.0; book.len()]], books: vec![book], maps: Vec::new() }
}

/// Moves every codeword to the mean of all of its vectors.
fn pass(rest: &Data, book: &mut Codebook) {
    let one = unpriced(book.clone());
    let mut all = vec![0.0; 2 * book.words.len()];
    for slab in rest.values.chunks(SLAB * rest.dim) {
        let slab = Data { dim: rest.dim, values: slab.to_vec(), weights: Vec::new() };
        let coded = one.search(&slab, 0.0, 1);
        let sums = kmeans::sums(&slab.vectors(), &coded.codes, 1, 0, book.len(), &coded.residuals);
        all.iter_mut().zip(&sums).for_each(|(a, s)| *a += s);
    }
    kmeans::nudge(book, &all, &mut vec![0.0; all.len()], 0.0);
}

/// Takes the nearest codeword from every vector; the squared error that is left.
fn subtract(rest: &mut Data, book: &Codebook) -> f64 {
    let one = unpriced(book.clone());
    let mut left = 0.0;
    for slab in rest.values.chunks_mut(SLAB * rest.dim) {
        let data = Data { dim: rest.dim, values: slab.to_vec(), weights: Vec::new() };
        let residuals = one.search(&data, 0.0, 1).residuals;
        left += kmeans::distortion(&residuals, &[]);
        slab.copy_from_slice(&residuals);
    }
    left
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Nearly Gaussian values.
    fn values(count: usize) -> Vec<f32> {
        let mut random = Random::new(4);
        (0..count).map(|_| (0..12).map(|_| random.unit()).sum::<f64>() as f32 - 6.0).collect()
    }

    #[test]
    fn batches_and_one_exact_pass_come_near_lloyds_iteration() {
        let values = values(1 << 18);
        let training = Training { batch: 1 << 13, ..Training::default() };
        let batches = train_codebooks(&values, 4, &[64, 32], &training).unwrap();
        let lloyd = train_codebooks(&values, 4, &[64, 32], &Training::lloyd(30)).unwrap();
        let ratio = batches.distortion() / lloyd.distortion();
        assert!(ratio < 1.01, "{ratio}");
        // What was measured while training is what the codebooks leave.
        let again = batches.error(&values, 1).unwrap();
        assert!((again / batches.distortion() - 1.0).abs() < 1e-6);
        let beams = [1, 4, 8].map(|beam| batches.error(&values, beam).unwrap());
        assert!(beams[0] > beams[1] && beams[1] >= beams[2], "{beams:?}");
    }

    #[test]
    fn exact_passes_only_improve() {
        let values = values(1 << 15);
        let left = [0, 1, 2, 5].map(|passes| {
            let training = Training { batches: 5, batch: 500, passes, seed: 7 };
            train_codebooks(&values, 2, &[50], &training).unwrap().distortion()
        });
        assert!(left.is_sorted_by(|a, b| a > b), "{left:?}");
    }

    #[test]
    fn threads_change_nothing_and_seeds_do() {
        let values = values(60_000);
        let training = Training { batches: 6, batch: 20_000, ..Training::default() };
        let train = |threads, seed| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let training = Training { seed, ..training };
            pool.install(|| train_codebooks(&values, 3, &[40, 10], &training).unwrap())
        };
        assert_eq!(train(1, 0), train(3, 0));
        assert_ne!(train(1, 0), train(1, 1));
    }

    #[test]
    fn what_cannot_be_trained_on_is_refused() {
        let usual = Training::default();
        let refused = |values: &[f32], dim, sizes: &[u16], training: &Training| {
            assert!(train_codebooks(values, dim, sizes, training).is_err());
        };
        refused(&[], 1, &[2], &usual);
        refused(&[1.0; 7], 2, &[2], &usual);
        refused(&[1.0; 8], 0, &[2], &usual);
        refused(&[1.0; 8], 2, &[], &usual);
        refused(&[1.0; 8], 2, &[257], &usual);
        refused(&[1.0, f32::NAN], 2, &[2], &usual);
        refused(&[1.0; 8], 2, &[2], &Training { batch: 0, ..usual });
        let books = train_codebooks(&[1.0; 8], 2, &[2], &usual).unwrap();
        assert!(books.distortion() == 0.0 && books.error(&[0.0; 3], 1).is_err());
        assert!(books.error(&[0.0; 4], 9).is_err() && books.error(&[0.0; 4], 0).is_err());
    }
}
