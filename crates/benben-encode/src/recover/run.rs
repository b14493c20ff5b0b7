//! The whole of it: blocks first, then end to end, and the best state that was seen.

use super::blocks::{HALVINGS, Pace, Streams};
use super::checkpoint::State;
use super::distill::{gradient, measure};
use super::fisher::{Steps, unit};
use super::parameter::{Parameter, rate};
use super::settings::Settings;
use super::student::Student;
use super::teacher::Teacher;
use crate::pack::GENERATOR;
use crate::recipe::{Recipe, Recovery};
use crate::sink::Sink;
use benben_decode::Pack;
use benben_format::{Observer, Result, Writer, Written, hex};
use benben_models::llm::graph::{Layer, Network, Positions};
use std::io::{Seek, Write};
use std::time::{Duration, Instant};

/// A pack with what is continuous in it tuned.
pub struct Recovered<'a> {
    student: Student<'a>,
    /// Divergence from the dense network on the held-out chunks as the pack was, in nats for each token.
    pub before: f64,
    /// The same of what [`write`](Self::write) writes; never above `before`.
    pub after: f64,
    /// Blocks that were tuned.
    pub blocks: usize,
    /// Steps that were done end to end.
    pub steps: usize,
}

/// Tunes the factors, norms, biases and low-rank parts of the network in `pack` until it says what `dense` says on
/// `chunks` of tokens of one length, of which the last `settings.held_out` choose the state that is kept. Codewords of
/// codec `rvq` are tuned too, and chosen anew; other codes stay as they are.
///
/// Both networks are of one shape. All matrices of the pack are in memory as f32, of the dense one those of a block
/// and the output matrix.
///
/// # Errors
/// InvalidArgument for chunks that do not do, or a checkpoint of something else; Corruption where the pack does not
/// hold this network; Interrupted, where `observer` says so: with a checkpoint the next call goes on from there.
pub fn recover<'a>(
    dense: &Network,
    pack: &'a Pack,
    chunks: &[&[u32]],
    settings: &Settings,
    observer: &mut Observer<'_>,
) -> Result<Recovered<'a>> {
    let start = Instant::now();
    let (training, held_out) = chunks.split_at(settings.training(chunks)?);
    let (config, device) = (dense.config(), dense.device());
    let block_chunks = settings.block_chunks.min(training.len());
    let blocks = if block_chunks > 0 && settings.block_passes > 0 { config.layers } else { 0 };
    let total = config.layers + blocks + settings.steps + 1;
    let mut progress = Steps { observer, done: 0, total: total as u64 };
    let positions = Positions::new(config, training[0].len(), device);
    let with_gradients = Positions::new(config, training[0].len(), &device.clone().autodiff());
    let plain = Layer { config, positions: &positions };
    let tracked = Layer { config, positions: &with_gradients };

    let mut student = Student::new(pack, config.clone(), device.clone(), settings.add_rows)?;
    let teacher = Teacher::new(dense, &plain, chunks, &mut |i| progress.next(&format!("dense, layer {i}")))?;
    let held_out_error = |student: &Student<'_>| measure(student, &teacher, &plain, held_out, training.len());

    let identity = identity(pack, chunks, settings);
    let saved = match &settings.checkpoint {
        Some(path) => {
            let codes = student.coded().map(|(coded, _)| coded.count()).sum();
            State::load(path, &identity, &mut student.parameters_mut().collect::<Vec<_>>(), codes)?
        }
        None => None,
    };
    let mut state = match saved {
        Some(state) => {
            student.set_codes(&state.best_codes)?;
            student.set_codes(&state.codes)?;
            state
        }
        None => {
            let before = held_out_error(&student)?;
            State {
                blocks: 0,
                steps: 0,
                halvings: 0,
                restart: 0,
                seconds: 0.0,
                before,
                least: before,
                halvings_of_codes: 0,
                best: copy(&student),
                best_codes: student.codes(),
                codes: Vec::new(),
            }
        }
    };
    let earlier = state.seconds;
    let seconds = || earlier + start.elapsed().as_secs_f64();
    let save = |state: &mut State, student: &Student<'_>| match &settings.checkpoint {
        Some(path) => {
            state.seconds = seconds();
            state.codes = student.codes();
            state.save(path, &identity, &student.parameters().collect::<Vec<_>>())
        }
        None => Ok(()),
    };
    let part_of_limit = || settings.limit.map_or(0.0, |limit| part(seconds(), limit));

    if blocks > 0 && state.steps == 0 && state.blocks < blocks {
        let mut streams = Streams::new(dense, &student, &training[..block_chunks], held_out)?;
        for index in 0..blocks {
            progress.next(&format!("block {index}"))?;
            // End to end is where most is gained: half of the time is left for it.
            let done = index < state.blocks || part_of_limit() > 0.5;
            let pace = Pace {
                passes: settings.block_passes,
                rate: settings.block_rate,
                words: settings.words,
                codes: settings.codes,
                growth: settings.growth,
            };
            streams.pass(dense, &mut student, index, &plain, &tracked, (!done).then_some(pace))?;
            if !done {
                state.blocks = index + 1;
                save(&mut state, &student)?;
            }
        }
        keep(&mut state, &student, held_out_error(&student)?);
        // Where all blocks together made it worse, each of them better though, the end begins from the start.
        put(&mut student, &state)?;
        save(&mut state, &student)?;
    }

    let tunes_codes = settings.codes > 0.0 && student.coded().next().is_some();
    // Gradients by matrices of codewords since the last step of codes.
    let mut matrices = Vec::new();
    let before_steps = progress.done;
    progress.done += state.steps as u64;
    while state.steps < settings.steps && part_of_limit() < 1.0 {
        let number = state.steps + 1;
        // Where time ends it, as many steps as there will be at this pace.
        let share = part_of_limit();
        if share > 0.0 && state.steps > 0 {
            #[allow(clippy::cast_sign_loss, reason = "neither is negative")]
            let expected = (state.steps as f32 / share).ceil() as u64;
            progress.total = before_steps + expected.min(settings.steps as u64) + 1;
        }
        if let Err(stop) =
            progress.next(&format!("step {number}, divergence {:.4} of {:.4}", state.least, state.before))
        {
            // Gradients since the last step of codes are as large as the network: what is saved has none.
            if matrices.is_empty() {
                save(&mut state, &student)?;
            }
            return Err(stop);
        }
        let done = (number as f32 / settings.steps as f32).max(share);
        let into = tunes_codes.then_some(&mut matrices);
        let gradient = of_step(&student, &teacher, &tracked, training, number, settings, into)?;
        let since = i32::try_from(number - state.restart).unwrap_or(i32::MAX);
        let peak = settings.rate * 0.5f32.powi(i32::try_from(state.halvings).unwrap_or(i32::MAX));
        for (parameter, gradient) in student.parameters_mut().zip(&gradient) {
            let words = if parameter.is_words() { settings.words } else { 1.0 };
            parameter.step(gradient, words * rate(peak, done), since);
        }
        state.steps = number;
        let of_codes = tunes_codes && number % settings.codes_every.max(1) == 0;
        if number % settings.measure.max(1) == 0 || number == settings.steps || of_codes {
            let mut found = held_out_error(&student)?;
            keep(&mut state, &student, found);
            if of_codes {
                found = move_codes(&mut student, &mut state, &matrices, settings, found, &held_out_error)?;
                matrices.clear();
            }
            // SmolLM2 in 49.5 MB bears 3e-4; at 8e-4 the divergence goes from 0.118 to 0.151 in 5 steps.
            if found > AWAY * state.least {
                put(&mut student, &state)?;
                student.parameters_mut().for_each(Parameter::restart);
                state.halvings += 1;
                state.restart = number;
            }
            if matrices.is_empty() {
                save(&mut state, &student)?;
            }
        }
    }
    keep(&mut state, &student, held_out_error(&student)?);
    put(&mut student, &state)?;
    progress.done = progress.total.saturating_sub(1);
    progress.next("")?;
    let State { before, least: after, blocks, steps, .. } = state;
    Ok(Recovered { student, before, after, blocks, steps })
}

/// A step of codes by the gradients by `matrices`, which stays where the divergence of held-out chunks falls below `found`;
/// else it is taken back, and tried again half as large. One that stays lets the next be twice as large. The divergence
/// after it.
fn move_codes(
    student: &mut Student<'_>,
    state: &mut State,
    matrices: &[Vec<f32>],
    settings: &Settings,
    found: f64,
    measure: &dyn Fn(&Student<'_>) -> Result<f64>,
) -> Result<f64> {
    let before = student.codes();
    for _ in 0..HALVINGS {
        let halvings = i32::try_from(state.halvings_of_codes).unwrap_or(i32::MAX);
        student.step_codes(matrices, (settings.codes * 0.5f32.powi(halvings), settings.growth))?;
        let moved = measure(student)?;
        if moved < found {
            keep(state, student, moved);
            state.halvings_of_codes = state.halvings_of_codes.saturating_sub(1);
            return Ok(moved);
        }
        student.set_codes(&before)?;
        state.halvings_of_codes += 1;
    }
    Ok(found)
}

/// A divergence of so many times the least one says that the rate is too high.
const AWAY: f64 = 1.02;

/// The gradient of step `number` (from 1), summed over its chunks; those by matrices of codewords are added to `matrices`.
fn of_step(
    student: &Student<'_>,
    teacher: &Teacher,
    layer: &Layer<'_>,
    training: &[&[u32]],
    number: usize,
    settings: &Settings,
    mut matrices: Option<&mut Vec<Vec<f32>>>,
) -> Result<Vec<Vec<f32>>> {
    let batch = settings.batch.max(1);
    let mut sum: Option<Vec<Vec<f32>>> = None;
    for i in (number - 1) * batch..number * batch {
        let chunk = order(i, training.len(), settings.seed);
        let found = gradient(student, teacher, layer, (chunk, training[chunk]), matrices.as_deref_mut())?;
        match &mut sum {
            None => sum = Some(found),
            Some(sum) => {
                sum.iter_mut().flatten().zip(found.iter().flatten()).for_each(|(sum, x)| *sum += x);
            }
        }
    }
    Ok(sum.unwrap_or_default())
}

impl Recovered<'_> {
    /// Writes the pack again, with new leaves for what has changed; chunks of all others go over as they are. The recipe
    /// in it, if there is one, gets `note` as its last recovery.
    ///
    /// # Errors
    /// As reading the pack and writing `out`.
    pub fn write(&self, note: Option<&Recovery>, out: impl Write + Seek) -> Result<Written> {
        // Written once and only counted, the room that the copy of the index needs at the front is known.
        let front = match self.student.pack.reader().front_index_bytes() {
            0 => 0,
            _ => self.write_behind(0, note, Sink::default())?.index_bytes,
        };
        self.write_behind(front, note, out)
    }

    /// Writes the pack behind room of `front` bytes.
    fn write_behind(&self, front: u64, note: Option<&Recovery>, out: impl Write + Seek) -> Result<Written> {
        let reader = self.student.pack.reader();
        let mut writer = Writer::new(out, GENERATOR, front)?;
        let directory = reader.directory();
        directory.metadata.iter().for_each(|(key, value)| writer.metadata(key, value));
        if let Some(text) = &directory.recipe {
            // A later version's recipe stays as it is.
            match (Recipe::from_toml(text), note) {
                (Ok(mut recipe), Some(note)) => {
                    recipe.recovery.push(note.clone());
                    writer.recipe(&recipe.to_toml()?);
                }
                _ => writer.recipe(text),
            }
        }
        for file in reader.files() {
            let leaf = super::form::copied_leaf(&file.leaf, reader)?;
            writer.file(&file.name, leaf)?;
        }
        for entry in reader.tensors() {
            let expr = self.student.expression(entry).map_err(|e| e.in_tensor(&entry.name))?;
            writer.tensor(&entry.name, entry.dtype, &entry.shape, entry.origin.clone(), expr)?;
        }
        Ok(writer.finish_in_place()?.1)
    }
}

/// What a checkpoint must have in common with the recovery that goes on from it.
fn identity(pack: &Pack, chunks: &[&[u32]], settings: &Settings) -> String {
    let fixed = Settings { checkpoint: None, limit: None, ..settings.clone() };
    let mut hash = blake3::Hasher::new();
    hash.update(&pack.reader().root());
    hash.update(format!("{fixed:?} {}", chunks.len()).as_bytes());
    chunks.iter().flat_map(|chunk| chunk.iter()).for_each(|token| {
        hash.update(&token.to_le_bytes());
    });
    hex(hash.finalize().as_bytes())
}

/// How much of `limit` has gone; of none at all, everything.
fn part(seconds: f64, limit: Duration) -> f32 {
    if limit.is_zero() { 1.0 } else { (seconds / limit.as_secs_f64()) as f32 }
}

fn copy(student: &Student<'_>) -> Vec<Vec<f32>> {
    student.parameters().map(|p| p.values.clone()).collect()
}

/// Makes the student what it was at its best.
fn put(student: &mut Student<'_>, state: &State) -> Result<()> {
    let each = |(parameter, values): (&mut Parameter, &Vec<f32>)| parameter.values.clone_from(values);
    student.parameters_mut().zip(&state.best).for_each(each);
    student.set_codes(&state.best_codes)
}

/// Remembers the student if it is the best so far.
fn keep(state: &mut State, student: &Student<'_>, found: f64) {
    if found < state.least {
        state.least = found;
        state.best = copy(student);
        state.best_codes = student.codes();
    }
}

/// The chunk of step `step`: every chunk once in each round, in an order of the round's own.
fn order(step: usize, chunks: usize, seed: u64) -> usize {
    let round = (step / chunks) as u64;
    let mut all: Vec<usize> = (0..chunks).collect();
    let key = |i: &usize| (unit(seed, (round << 32) | *i as u64).to_bits(), *i);
    all.sort_by_key(key);
    all[step % chunks]
}

#[cfg(test)]
mod tests {
    use super::super::made::{Made, coded, config, packed, rotated};
    use super::*;
    use benben_format::{Expr, ignore};
    use benben_models::llm::Part;
    use std::ops::ControlFlow;
    use std::sync::Arc;

    fn words() -> Vec<u32> {
        (0..160u32).map(|i| (i * i * 7 + i * 13 + i / 9) % 40).collect()
    }

    fn settings() -> Settings {
        Settings { steps: 40, rate: 4e-2, words: 1.0, measure: 8, block_rate: 4e-2, ..Settings::default() }
    }

    fn written(found: &Recovered<'_>) -> Pack {
        let mut file = std::io::Cursor::new(Vec::new());
        found.write(None, &mut file).unwrap();
        Pack::from_source(Arc::new(file.into_inner()), benben_format::Limits::default()).unwrap()
    }

    /// The pack that comes of one of [`Made`]: nearer to the dense network, by as much as was measured.
    fn recovered(pack: impl Fn(&Made) -> Pack) -> Pack {
        let (config, words) = (config(), words());
        let (made, chunks): (_, Vec<&[u32]>) = (Made::new(&config), words.chunks(16).collect());
        let (dense, pack) = (made.network(&config), pack(&made));
        let found = recover(&dense, &pack, &chunks, &settings(), &mut ignore).unwrap();
        assert!(found.after < 0.8 * found.before, "{} -> {}", found.before, found.after);

        let again = written(&found);
        let measured = Settings { steps: 0, block_chunks: 0, ..settings() };
        let same = recover(&dense, &again, &chunks, &measured, &mut ignore).unwrap();
        assert!((same.before / found.after - 1.0).abs() < 1e-4, "{} and {}", same.before, found.after);
        assert_eq!(same.after, same.before);
        again
    }

    #[test]
    fn it_comes_nearer_and_what_is_written_is_what_was_measured() {
        assert_eq!(recovered(packed).file("note.txt").unwrap(), b"kept");
    }

    #[test]
    fn factors_in_rotated_bases_are_tuned_there() {
        let again = recovered(rotated);
        for (name, stored) in [
            (Part::Query.name(0).as_str(), "rotate(scale(raw, raw, raw))"),
            (benben_models::llm::EMBEDDING, "rotate(scale(raw, raw))"),
        ] {
            assert_eq!(again.tensor(name).unwrap().entry().expr.describe(), stored, "{name}");
        }
    }

    #[test]
    fn codes_and_what_is_no_parameter_go_over_as_they_are() {
        let (config, words) = (config(), words());
        let (made, chunks): (_, Vec<&[u32]>) = (Made::new(&config), words.chunks(16).collect());
        let pack = packed(&made);
        let found = recover(&made.network(&config), &pack, &chunks, &settings(), &mut ignore).unwrap();
        let again = written(&found);
        let of = |pack: &Pack, name: &str| match pack.tensor(name).unwrap().entry().expr.clone() {
            Expr::Scale { rows, of, .. } => (rows.is_some(), pack.evaluate(&of).unwrap()),
            other => panic!("{other:?}"),
        };
        for part in [Part::Query, Part::Down] {
            let ((before, codes), (after, kept)) = (of(&pack, &part.name(1)), of(&again, &part.name(1)));
            assert!(!before && after, "{part:?}: rows have got factors");
            assert_eq!(codes, kept);
        }
        let table = |pack: &Pack| pack.tensor(benben_models::llm::EMBEDDING).unwrap().to_bytes().unwrap();
        assert_eq!(table(&pack), table(&again));
        let value = again.tensor(&Part::Value.name(0)).unwrap();
        assert_eq!(value.entry().expr.describe(), "sum(scale(raw, raw, raw), product(raw, raw))");
    }

    #[test]
    fn a_recovery_that_was_stopped_goes_on_to_the_same_end() {
        let (config, words) = (config(), words());
        let (made, chunks): (_, Vec<&[u32]>) = (Made::new(&config), words.chunks(16).collect());
        let (dense, pack) = (made.network(&config), packed(&made));
        let straight = recover(&dense, &pack, &chunks, &settings(), &mut ignore).unwrap();

        let folder = tempfile::tempdir().unwrap();
        let kept = Settings { checkpoint: Some(folder.path().join("state")), ..settings() };
        // After the first block; in the middle of the steps, behind one that was saved.
        for stop in ["block 1", "step 11,"] {
            let mut observer = |at: benben_format::Progress<'_>| {
                if at.item.starts_with(stop) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            };
            assert!(recover(&dense, &pack, &chunks, &kept, &mut observer).is_err());
        }
        let resumed = recover(&dense, &pack, &chunks, &kept, &mut ignore).unwrap();
        assert_eq!((resumed.before, resumed.after), (straight.before, straight.after));
        assert_eq!(written(&resumed).reader().root(), written(&straight).reader().root());

        let other = Settings { rate: 1e-3, ..kept };
        let refused = recover(&dense, &pack, &chunks, &other, &mut ignore).err().unwrap();
        assert!(refused.message().contains("of another model, text or setting"), "{refused}");
    }

    /// Few words, so that 16 of them show what codes can do.
    fn of_codes() -> Settings {
        Settings { steps: 60, codes: 0.05, codes_every: 4, growth: 0.2, ..settings() }
    }

    #[test]
    fn codewords_gain_and_codes_gain_more() {
        let (config, words) = (config(), words());
        let (made, chunks): (_, Vec<&[u32]>) = (Made::new(&config), words.chunks(16).collect());
        let (dense, pack) = (made.network(&config), coded(&made));
        // Factors as they are: codewords alone, then their codes too.
        let words_only = Settings { codes: 0.0, ..of_codes() };
        let by_words = recover(&dense, &pack, &chunks, &words_only, &mut ignore).unwrap();
        let by_codes = recover(&dense, &pack, &chunks, &of_codes(), &mut ignore).unwrap();
        assert!(by_words.after < 0.9 * by_words.before, "{} -> {}", by_words.before, by_words.after);
        assert!(by_codes.after < 0.97 * by_words.after, "{} and {}", by_words.after, by_codes.after);

        let again = written(&by_codes);
        let measured = Settings { steps: 0, block_chunks: 0, ..settings() };
        let same = recover(&dense, &again, &chunks, &measured, &mut ignore).unwrap();
        assert!((same.before / by_codes.after - 1.0).abs() < 1e-4, "{} and {}", same.before, by_codes.after);
        for part in [Part::Query, Part::Output] {
            let describe = |pack: &Pack| pack.tensor(&part.name(1)).unwrap().entry().expr.describe();
            assert!(describe(&again).contains("rvq"), "{}", describe(&again));
            let bytes = |pack: &Pack| pack.tensor(&part.name(1)).unwrap().to_bytes().unwrap();
            assert_ne!(bytes(&pack), bytes(&again));
        }
    }

    #[test]
    fn a_step_of_codes_that_does_not_help_is_taken_back() {
        let (config, words) = (config(), words());
        let (made, chunks): (_, Vec<&[u32]>) = (Made::new(&config), words.chunks(16).collect());
        let pack = coded(&made);
        // The original is what the pack holds: whatever moves, it is further away.
        let mut original = made.clone();
        for (name, (_, values)) in &mut original.0 {
            *values = pack.evaluate(&pack.tensor(name).unwrap().entry().expr).unwrap();
        }
        let dense = original.network(&config);
        let none = Settings { steps: 0, block_chunks: 0, ..settings() };
        let untouched =
            written(&recover(&dense, &pack, &chunks, &none, &mut ignore).unwrap()).reader().root();
        // Codes alone; then steps that no leaf has room for.
        let codes = Settings { rate: 0.0, block_chunks: 0, steps: 2, codes_every: 1, ..of_codes() };
        for settings in [Settings { growth: 9.0, ..codes.clone() }, Settings { growth: -1.0, ..codes }] {
            let found = recover(&dense, &pack, &chunks, &settings, &mut ignore).unwrap();
            assert_eq!((found.steps, found.after), (2, found.before), "{settings:?}");
            assert!(found.before < 1e-6, "{}", found.before);
            assert_eq!(written(&found).reader().root(), untouched);
        }
    }

    #[test]
    fn a_recovery_of_codes_that_was_stopped_goes_on_to_the_same_end() {
        let (config, words) = (config(), words());
        let (made, chunks): (_, Vec<&[u32]>) = (Made::new(&config), words.chunks(16).collect());
        let (dense, pack) = (made.network(&config), coded(&made));
        let straight = recover(&dense, &pack, &chunks, &of_codes(), &mut ignore).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let kept = Settings { checkpoint: Some(folder.path().join("state")), ..of_codes() };
        for stop in ["block 1", "step 15,", "step 17,"] {
            let mut observer = |at: benben_format::Progress<'_>| {
                if at.item.starts_with(stop) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            };
            assert!(recover(&dense, &pack, &chunks, &kept, &mut observer).is_err());
        }
        let resumed = recover(&dense, &pack, &chunks, &kept, &mut ignore).unwrap();
        assert_eq!((resumed.before, resumed.after), (straight.before, straight.after));
        assert_eq!(written(&resumed).reader().root(), written(&straight).reader().root());
    }

    #[test]
    fn a_rate_that_leads_away_is_halved_until_it_does_not() {
        let (config, words) = (config(), words());
        let (made, chunks): (_, Vec<&[u32]>) = (Made::new(&config), words.chunks(16).collect());
        let (dense, pack) = (made.network(&config), packed(&made));
        let far = Settings { rate: 2.0, block_chunks: 0, measure: 2, steps: 60, ..settings() };
        let found = recover(&dense, &pack, &chunks, &far, &mut ignore).unwrap();
        assert!(found.after < 0.95 * found.before, "{} -> {}", found.before, found.after);
    }

    #[test]
    fn without_time_or_chunks_nothing_changes_or_nothing_starts() {
        let (config, words) = (config(), words());
        let (made, chunks): (_, Vec<&[u32]>) = (Made::new(&config), words.chunks(16).collect());
        let (dense, pack) = (made.network(&config), packed(&made));
        let none = Settings { limit: Some(std::time::Duration::ZERO), ..settings() };
        let found = recover(&dense, &pack, &chunks, &none, &mut ignore).unwrap();
        assert_eq!((found.before, found.steps, found.blocks), (found.after, 0, 0));
        assert!(recover(&dense, &pack, &chunks[..2], &settings(), &mut ignore).is_err());
    }
}
