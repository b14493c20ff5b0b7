//! Every flag, once: help, man page and completions come from here.

use benben::{Codec, Dtype, Method, PRESETS};
use clap::{Args as ClapArgs, Parser, Subcommand};
use std::path::PathBuf;

/// Pack models small, open them at once, decode them while they run.
#[derive(Debug, Parser)]
#[command(name = "benben", version, about, max_term_width = 110)]
#[command(
    after_help = "Exit codes: 0 ok, 1 failed or corrupt, 2 usage, 3 a check was not met, 4 unsupported version or \
codec, 130 interrupted.\nStart with `benben demo`."
)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Clone, ClapArgs)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Global {
    /// Print JSON on stdout instead of tables
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Print nothing but errors and what --json asks for
    #[arg(long, short, global = true)]
    pub(crate) quiet: bool,
    /// Draw no progress bar
    #[arg(long, global = true)]
    pub(crate) no_progress: bool,
    /// Worker threads; results never depend on it [default: all cores]
    #[arg(long, global = true, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024), allow_negative_numbers = true)]
    pub(crate) threads: Option<u16>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Pack a model: safetensors, a Hugging Face folder, GGUF, or another pack
    Pack(Pack),
    /// Show what packing would do, without packing, and write the recipe
    Plan(Plan),
    /// Run a language model over text and keep what quantizing needs to know of its layers
    Calibrate(Calibrate),
    /// Tune the factors of a finished pack until it says what the original says
    Recover(Recover),
    /// Get model files back from a pack
    Unpack(Unpack),
    /// List what a pack, or a calibration, holds, without decoding it
    Inspect(Inspect),
    /// Check every byte of a pack and decode every tensor
    Verify(Verify),
    /// Measure how far two models are apart, tensor by tensor
    Compare(Compare),
    /// Continue a text, or answer, with a language model: a pack, or a Hugging Face folder
    Run(Run),
    /// Measure how well a language model predicts a text, and how far it is from its original
    Eval(Eval),
    /// Pack, verify, unpack and compare the small language model that comes with the program
    Demo(Demo),
    /// Measure coders and quantizers on this machine, beside peers and copies of memory
    Bench(Bench),
    /// Print shell completions
    Completions(Completions),
}

/// What a recipe is made of.
#[derive(Debug, Clone, ClapArgs)]
pub(crate) struct RecipeArgs {
    /// How faithful [default: balanced]
    #[arg(long, value_name = "NAME", value_parser = PRESETS.map(|p| p.name), hide_possible_values = true, help = preset_help(), conflicts_with = "recipe")]
    pub(crate) preset: Option<String>,
    /// Bits per weight that the whole file is to come to, everything counted
    #[arg(long, value_name = "X", conflicts_with_all = ["recipe", "preset"], allow_negative_numbers = true)]
    pub(crate) bpw: Option<f64>,
    /// Size that the pack is to have, 55MB or 700MiB, everything counted: never more, and at most 0.5 % less. Tensors get
    /// the bits that lose least, by --calib where it is given
    #[arg(long, value_name = "SIZE", conflicts_with_all = ["recipe", "preset", "bpw"], value_parser = crate::memory::size)]
    pub(crate) size: Option<usize>,
    /// The smallest pack that loses at most X nats for each token (KL divergence from the original) on the text of --calib
    #[arg(long, value_name = "X", conflicts_with_all = ["recipe", "preset", "bpw", "size"], requires = "calib", value_parser = most_loss, allow_negative_numbers = true)]
    pub(crate) max_loss: Option<f64>,
    /// Text that is like what the model will read: weights are rounded so that its layers err least on it, and plans are
    /// judged on it. Or a file of `benben calibrate`, or both
    #[arg(long, value_name = "FILE")]
    pub(crate) calib: Vec<PathBuf>,
    /// Code layers one after the other, each by what is stored of those before it while the network runs on the text of
    /// --calib
    #[arg(long, requires = "calib")]
    pub(crate) sequential: bool,
    /// How long to search for a plan, 1 to 9; each step takes longer than the one before
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u8).range(1..=9))]
    pub(crate) effort: u8,
    /// Tune factors and norms against the original on the text of --calib, for N steps after packing; 0: not at all
    /// [default: 0 up to effort 4, then 20, 40, 80, 160, 320; in builds with the feature `recover`]
    #[arg(long, value_name = "N", requires = "calib")]
    pub(crate) recover: Option<u32>,
    /// Keep coded levels and measurements in this folder: another size, or an interrupted run, starts from them
    /// [default: a folder that vanishes]
    #[arg(long, value_name = "DIR")]
    pub(crate) levels: Option<PathBuf>,
    /// Quantizer of matrices: scalar, trellis, pvq, rvq or ternary [default: scalar; trellis with --size and --max-loss]
    #[arg(long, value_name = "CODEC", conflicts_with = "recipe", value_parser = method)]
    pub(crate) quantizer: Option<Method>,
    /// Another codec for the tensors whose names match, as often as you like; the last match wins.
    /// CODEC is raw, scalar, trellis, pvq, rvq, ternary or lowrank; PARAMS are bpw or mse, and dim, beam, groups, classes, rotate,
    /// plain, even, rank (of a product beside the codec, or in its place), metric (svd, fisher or inputs)
    #[arg(long, value_name = "PATTERN=CODEC:PARAMS")]
    pub(crate) set: Vec<String>,
    /// Take everything from a TOML recipe, as `benben plan --write-recipe` writes it
    #[arg(long, value_name = "FILE")]
    pub(crate) recipe: Option<PathBuf>,
    /// Seed of everything random
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub(crate) seed: Option<u64>,
}

/// A value's error with its hint: clap shows one line.
fn in_words(error: &benben::Error) -> String {
    match error.hint() {
        Some(hint) => format!("{} ({hint})", error.message()),
        None => error.message().into(),
    }
}

fn method(text: &str) -> Result<Method, String> {
    text.parse().map_err(|e| in_words(&e))
}

fn float_dtype(text: &str) -> Result<Dtype, String> {
    let known = text.parse::<Dtype>().ok().filter(|d| d.is_float());
    known.ok_or_else(|| "expected f32, f16, bf16 or f64".into())
}

fn most_error(text: &str) -> Result<f64, String> {
    let number = text.parse::<f64>().ok().filter(|x| *x >= 0.0);
    number.ok_or_else(|| "expected a number that is 0 or more, for example 1e-3".into())
}

fn most_loss(text: &str) -> Result<f64, String> {
    let number = text.parse::<f64>().ok().filter(|x| x.is_finite() && *x > 0.0);
    number.ok_or_else(|| "expected a number above 0, for example 0.05".into())
}

fn share(text: &str) -> Result<f32, String> {
    let number = text.parse().ok().filter(|x| (0.0..=1.0).contains(x));
    number.ok_or_else(|| "expected a number from 0 to 1".to_owned())
}

fn preset_help() -> String {
    let mut help = String::from("How faithful [default: balanced]:\n");
    for preset in PRESETS {
        help.push_str(&format!("  {:<14} {}\n", preset.name, preset.about));
    }
    help
}

#[derive(Debug, Clone, ClapArgs)]
pub(crate) struct Pack {
    /// Model file or folder
    pub(crate) source: PathBuf,
    /// The pack to write, `-` for stdout [default: the source's name with .benben]
    #[arg(long, short, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) recipe: RecipeArgs,
    /// Show the plan and stop
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Leave configuration and tokenizer out
    #[arg(long)]
    pub(crate) no_files: bool,
    /// Replace the output if it exists
    #[arg(long, short)]
    pub(crate) force: bool,
    /// List every tensor, not just the totals
    #[arg(long, short)]
    pub(crate) verbose: bool,
}

#[derive(Debug, Clone, ClapArgs)]
pub(crate) struct Plan {
    /// Model file or folder
    pub(crate) source: PathBuf,
    #[command(flatten)]
    pub(crate) recipe: RecipeArgs,
    /// Leave configuration and tokenizer out
    #[arg(long)]
    pub(crate) no_files: bool,
    /// Write the recipe as TOML, to edit and to give to `pack --recipe`; `-` for stdout, without the table
    #[arg(long, value_name = "FILE")]
    pub(crate) write_recipe: Option<PathBuf>,
    /// Replace the recipe if it exists
    #[arg(long, short)]
    pub(crate) force: bool,
}

#[derive(Debug, Clone, ClapArgs)]
pub(crate) struct Unpack {
    /// The pack
    pub(crate) pack: PathBuf,
    /// A .safetensors file, or a folder for weights, configuration and tokenizer
    /// [default: the pack's name without .benben]
    #[arg(long, short, value_name = "PATH")]
    pub(crate) output: Option<PathBuf>,
    /// Only tensors whose name matches, as often as you like: `*` any text, `?` one character
    #[arg(long, short, value_name = "PATTERN")]
    pub(crate) tensor: Vec<String>,
    /// Element type of float tensors: f32, f16, bf16 or f64 [default: each tensor's own]
    #[arg(long, value_parser = float_dtype)]
    pub(crate) dtype: Option<Dtype>,
    /// Replace files that exist
    #[arg(long, short)]
    pub(crate) force: bool,
    /// Take what can still be read of a pack that was cut short or damaged
    #[arg(long)]
    pub(crate) truncated: bool,
}

#[derive(Debug, Clone, ClapArgs)]
#[command(
    after_help = "The tokens of the text, without special ones, are cut into chunks of exactly --context tokens; each is \
read from an empty state. The file holds the second moment of the input of every linear layer and serves any number of \
packs of this model, at any size."
)]
pub(crate) struct Calibrate {
    /// The folder, or pack, of the original model
    pub(crate) model: PathBuf,
    /// The text, UTF-8: what the model will be used for, most of all
    #[arg(long, value_name = "FILE")]
    pub(crate) data: PathBuf,
    /// The file to write [default: the model's name with .calibration]
    #[arg(long, short, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// Tokens of a chunk
    #[arg(long, value_name = "N", default_value_t = 512)]
    pub(crate) context: usize,
    /// Most chunks
    #[arg(long, value_name = "N", default_value_t = 128, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) chunks: u32,
    /// Also measure how much each output row of a layer counts, by gradients on N chunks, and keep it: packs of one size
    /// lose less. In builds with the feature `recover`
    #[arg(long, value_name = "N", num_args = 0..=1, require_equals = true, default_missing_value = "16",
        value_parser = clap::value_parser!(u32).range(1..), conflicts_with = "rows")]
    pub(crate) gradients: Option<u32>,
    /// Show how much each block changes its stream
    #[arg(long)]
    pub(crate) influence: bool,
    /// Also keep how much each output row of a layer counts, from a safetensors file with a vector of each layer's name
    #[arg(long, value_name = "FILE")]
    pub(crate) rows: Option<PathBuf>,
    /// Take chunks from all over the text, chosen by this seed [default: the first ones]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub(crate) seed: Option<u64>,
    /// Replace the output if it exists
    #[arg(long, short)]
    pub(crate) force: bool,
}

#[derive(Debug, Clone, ClapArgs)]
#[command(
    after_help = "Factors, norms, biases and low-rank parts move, first block by block, then end to end; of codec rvq the \
codewords too, and the codes of a few vectors at a time where that helps. Other codes stay as they are. The last chunks of the text are held out and choose what is kept: the pack is never further from the original on \
them than it was. Ctrl-C leaves a checkpoint, from which the same command goes on. In builds with the feature `recover`."
)]
pub(crate) struct Recover {
    /// The pack of a language model
    pub(crate) pack: PathBuf,
    /// The folder, or pack, of the original model
    #[arg(long, value_name = "MODEL")]
    pub(crate) model: PathBuf,
    /// The text, UTF-8: what the model will be used for, most of all
    #[arg(long, value_name = "FILE")]
    pub(crate) calib: PathBuf,
    /// The pack to write [default: the pack's name with .recovered.benben]
    #[arg(long, short, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// Steps end to end: the same number gives the same bytes [default: 40]
    #[arg(long, value_name = "N")]
    pub(crate) steps: Option<u32>,
    /// Start no step after so many seconds
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    pub(crate) seconds: Option<u64>,
    /// Most chunks of 512 tokens [default: what the steps need, 130 at most]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(3..))]
    pub(crate) chunks: Option<u32>,
    /// Share of the vectors of codec rvq whose codes one step may move; it is halved where a step does not help. 0: codes
    /// stay [default: 0.001]
    #[arg(long, value_name = "SHARE", value_parser = share)]
    pub(crate) codes: Option<f32>,
    /// Where the state is kept [default: the output's name with .checkpoint]
    #[arg(long, value_name = "FILE")]
    pub(crate) checkpoint: Option<PathBuf>,
    /// Replace the output if it exists
    #[arg(long, short)]
    pub(crate) force: bool,
}

#[derive(Debug, Clone, ClapArgs)]
pub(crate) struct Inspect {
    /// The pack, or a file of `benben calibrate`
    pub(crate) pack: PathBuf,
    /// Only tensors whose name matches, as often as you like
    #[arg(long, short, value_name = "PATTERN")]
    pub(crate) tensor: Vec<String>,
    /// Show the recipe that made the pack
    #[arg(long)]
    pub(crate) show_recipe: bool,
}

#[derive(Debug, Clone, ClapArgs)]
pub(crate) struct Verify {
    /// The pack
    pub(crate) pack: PathBuf,
    /// Also compare with the model that it was made from
    #[arg(long, value_name = "MODEL")]
    pub(crate) against: Option<PathBuf>,
    /// With --against: the largest relative squared error that a tensor may have
    #[arg(long, value_name = "X", requires = "against", value_parser = most_error, allow_negative_numbers = true)]
    pub(crate) max_mse: Option<f64>,
}

#[derive(Debug, Clone, ClapArgs)]
pub(crate) struct Compare {
    /// The reference: a pack, a model file or a folder
    pub(crate) first: PathBuf,
    /// What is measured against it
    pub(crate) second: PathBuf,
    /// Only tensors whose name matches, as often as you like
    #[arg(long, short, value_name = "PATTERN")]
    pub(crate) tensor: Vec<String>,
    /// End with exit code 3 where a tensor's relative squared error is larger
    #[arg(long, value_name = "X", value_parser = most_error, allow_negative_numbers = true)]
    pub(crate) max_mse: Option<f64>,
    /// End with exit code 3 unless every tensor is the same to the bit
    #[arg(long)]
    pub(crate) exact: bool,
}

/// Where and how a model runs.
#[derive(Debug, Clone, ClapArgs)]
pub(crate) struct ModelArgs {
    /// Memory for weights, 64MiB or 2GB: tensors of the pack that do not fit are decoded again when they are needed.
    /// No less than one layer's largest matrices is held, whatever is asked [default: all stay in memory]
    #[arg(long, value_name = "SIZE", value_parser = crate::memory::size)]
    pub(crate) memory: Option<usize>,
    /// What computes
    #[arg(long, value_enum, default_value_t = Device::Cpu)]
    pub(crate) device: Device,
    /// Keep weights as f32 instead of in the form that is small and fast
    #[arg(long)]
    pub(crate) dense: bool,
}

/// What computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Device {
    /// The processor
    Cpu,
    /// The graphics processor, in builds with the feature `wgpu`
    Wgpu,
}

#[derive(Debug, Clone, ClapArgs)]
#[command(
    after_help = "Text goes to stdout as it comes, statistics to stderr (--json: all in one object on stdout). Ctrl-C \
stops the text and still shows the statistics; the exit code is 130.\nThe same model, prompt and seed give the same text \
whatever --threads and --memory say."
)]
pub(crate) struct Run {
    /// The pack, or a folder with weights, config.json and tokenizer.json
    pub(crate) model: PathBuf,
    /// The text to continue, `-` for stdin [default: stdin]
    #[arg(long, short, value_name = "TEXT", allow_hyphen_values = true)]
    pub(crate) prompt: Option<String>,
    /// Most tokens to generate
    #[arg(long = "tokens", short = 'n', value_name = "N", default_value_t = 128)]
    pub(crate) tokens: usize,
    #[command(flatten)]
    pub(crate) model_args: ModelArgs,
    /// How bold the choice of tokens is; 0 always takes the likeliest
    #[arg(long, value_name = "X", default_value_t = 0.0, allow_negative_numbers = true)]
    pub(crate) temperature: f32,
    /// Choose from the fewest tokens that together have this probability
    #[arg(long, value_name = "X", default_value_t = 1.0, allow_negative_numbers = true)]
    pub(crate) top_p: f32,
    /// Seed of the choice; the same seed gives the same text
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) seed: u64,
    /// The prompt is what a user says: put it into the model's chat template
    #[arg(long)]
    pub(crate) chat: bool,
    /// With --chat: what the model is told beforehand
    #[arg(long, value_name = "TEXT", requires = "chat")]
    pub(crate) system: Option<String>,
}

#[derive(Debug, Clone, ClapArgs)]
#[command(
    after_help = "Protocol: the tokens of the whole text, without special ones, are cut into chunks of exactly --context \
tokens; the rest is not used. Each chunk is read from an empty state. --score all scores every token from the second on; \
--score half scores only the second half of each chunk, as llama.cpp's perplexity tool does. Perplexity is e to the mean \
loss over all scored tokens; standard errors are over chunks. KL divergence is of the model from the reference, over the \
whole vocabulary, in nats for each token."
)]
pub(crate) struct Eval {
    /// The pack or folder to measure
    pub(crate) model: PathBuf,
    /// The text, UTF-8
    #[arg(long, value_name = "FILE")]
    pub(crate) data: PathBuf,
    /// Tokens of a chunk
    #[arg(long, value_name = "N", default_value_t = 512)]
    pub(crate) context: usize,
    /// Which tokens of a chunk are scored
    #[arg(long, value_enum, default_value_t = ScoreArg::All)]
    pub(crate) score: ScoreArg,
    /// Only the first chunks
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) chunks: Option<u32>,
    /// The original, to measure how far the model is from it
    #[arg(long, value_name = "MODEL")]
    pub(crate) reference: Option<PathBuf>,
    /// Save results after every chunk in this file, and go on from it where it exists
    #[arg(long, value_name = "FILE")]
    pub(crate) resume: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) model_args: ModelArgs,
}

/// Which tokens of a chunk are scored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum ScoreArg {
    /// All but the first
    All,
    /// The second half
    Half,
}

#[derive(Debug, Clone, ClapArgs)]
pub(crate) struct Demo {
    /// Keep the packs and the unpacked model in this folder
    #[arg(long, value_name = "DIR")]
    pub(crate) keep: Option<PathBuf>,
}

#[derive(Debug, Clone, ClapArgs)]
#[command(
    after_help = "Everything is measured in one run on the same data, by turns; a figure is the median. One thread \
unless --threads asks for more. Compare the ratios: speeds depend on the machine and on what else it does."
)]
pub(crate) struct Bench {
    /// Take the largest matrices of this model [default: Gaussian samples]
    pub(crate) model: Option<PathBuf>,
    /// Half a million weights and three turns: a look, in seconds; caches flatter everyone
    #[arg(long)]
    pub(crate) quick: bool,
    /// Only these tables, as often as you like
    #[arg(long, value_name = "TABLE", value_enum)]
    pub(crate) only: Vec<BenchTable>,
    /// Bits for each symbol, 0.1 to 6, in the table of coders
    #[arg(long, value_name = "X", default_value_t = 3.0, allow_negative_numbers = true)]
    pub(crate) bits: f64,
    /// Weights to measure on, at most [default: 16 million, so that no cache holds their 64 MB]
    #[arg(long, value_name = "N")]
    pub(crate) weights: Option<usize>,
    /// Write the weights as floats and integers, and our figures on them (ours.json), into this folder, instead of the
    /// tables: what tools/bench_peers.py gives to coders that are not built in
    #[arg(long, value_name = "DIR", conflicts_with_all = ["only", "bits", "integers"])]
    pub(crate) export: Option<PathBuf>,
    /// Replace what an earlier export left in the folder
    #[arg(long, short, requires = "export")]
    pub(crate) force: bool,
    /// Code the integers of this file (tensors of i8, i16 or i32) by class tables, instead of the tables
    #[arg(long, value_name = "FILE", conflicts_with_all = ["model", "only", "bits", "weights"])]
    pub(crate) integers: Option<PathBuf>,
}

/// A table of `benben bench`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum BenchTable {
    /// Symbols to bits and back
    Coding,
    /// Floats, bit for bit
    Lossless,
    /// Distance from the Gaussian bound, and speed
    Quantizers,
}

#[derive(Debug, Clone, ClapArgs)]
pub(crate) struct Completions {
    /// The shell
    pub(crate) shell: clap_complete::Shell,
}

fn recipe_text(path: &std::path::Path) -> benben::Result<String> {
    std::fs::read_to_string(path).map_err(|e| match e.kind() {
        std::io::ErrorKind::InvalidData => {
            benben::Error::invalid(format!("{} is no text, expected a recipe in TOML", path.display()))
                .with_hint("`benben inspect --show-recipe PACK` shows the recipe of a pack")
        }
        _ => benben::Error::from(e).context(path.display()),
    })
}

impl RecipeArgs {
    /// Whether the plan is searched for: a size or a loss is asked for, or bits for each weight with a text.
    pub(crate) fn searches(&self) -> bool {
        self.size.is_some() || self.max_loss.is_some() || (self.bpw.is_some() && !self.calib.is_empty())
    }

    /// The recipe that the flags ask for.
    pub(crate) fn recipe(&self) -> benben::Result<benben::Recipe> {
        let mut recipe = match &self.recipe {
            Some(path) => {
                let text = recipe_text(path)?;
                benben::Recipe::from_toml(&text).map_err(|e| e.context(path.display()))?
            }
            None => benben::Recipe::preset(self.preset.as_deref().unwrap_or("balanced"))?,
        };
        if let Some(method) = self.quantizer {
            let error = recipe.default.mse;
            recipe.default = method;
            if method.codec != Codec::Raw && method.target().is_none() {
                recipe.default.mse = error;
            }
        }
        if self.searches() {
            if let Some(method) = self.quantizer.filter(|m| m.target().is_some()) {
                return Err(benben::Error::invalid(format!(
                    "--quantizer {method} has a target of its own, what is asked for is another"
                ))
                .with_hint(format!("give --quantizer {} alone", method.codec.name())));
            }
            if self.quantizer.is_none() {
                recipe.default.codec = Codec::Trellis;
            }
        }
        if let Some(bits) = self.bpw {
            if let Some(method) = self.quantizer.filter(|m| m.target().is_some()) {
                return Err(benben::Error::invalid(format!(
                    "--bpw {bits} and --quantizer {method} name two targets for the same tensors"
                ))
                .with_hint(format!("leave out --bpw, or give --quantizer {} alone", method.codec.name())));
            }
            recipe.bits_per_weight = Some(bits);
            recipe.default.mse = None;
        }
        for rule in &self.set {
            recipe.set(rule)?;
        }
        if let Some(seed) = self.seed {
            recipe.seed = seed;
        }
        recipe.check()?;
        Ok(recipe)
    }
}
