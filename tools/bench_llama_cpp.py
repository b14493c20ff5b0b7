#!/usr/bin/env python3
"""Packs as running models beside llama.cpp: bytes, tokens/s, prefill, first token, memory, perplexity, in one run.

    python3 tools/fetch_assets.py smollm2
    benben pack assets/smollm2 -o balanced.benben; benben pack assets/smollm2 --preset small -o small.benben
    python3 tools/bench_llama_cpp.py assets/smollm2 --packs balanced.benben small.benben assets/smollm2 [--text TEXT]

The folder (a Llama in f16 with a byte-level tokenizer) becomes GGUF, and llama.cpp's types out of it; no importance
matrix. llama.cpp is built, for this CPU, from the sources in the package llama-cpp-python, with cmake, ninja and the rest
in a virtual environment (`--work`, ten minutes of two cores the first time): its library and a small driver in C, so that
no Python counts as its memory. If it cannot be had, that is said and the end. `--packs` may name the folder itself: our
path for weights that are not packed.

Everything takes turns, `--repeat` times, and the table has medians. All times are of whole processes as a user starts
them, the file in the page cache: tokens/s by each program's own clock over greedy generation, one token at a time, after
a short prompt; prefill likewise over one prompt of 512 tokens (llama.cpp's after a warm-up, as llama-bench has it; ours in
a fresh process); the first token by ours, from the start of the process to its first byte of text; memory is the peak
of the resident set during generation. Perplexity: chunks of 512 tokens, all but the first token of each scored, as
tools/reference_perplexity.py has it. `nearest` is llama.cpp's type whose file is nearest in size.

`--first-token` holds the first token of packs against reading and decoding the pack once, which is taken as the quicker
of `benben verify` and `benben unpack`: both do that and a bit more. `--strict` ends with code 3 where a goal is missed.
"""
import argparse
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
HERE = ROOT / "tools" / "llama_cpp"
SOURCES = "llama-cpp-python==0.3.36"
PACKAGES = ["cmake", "ninja", "numpy", "gguf", "safetensors", "tokenizers", "scikit-build-core"]
# enum llama_ftype; F16 is what the folder is converted to.
TYPES = {"F16": 1, "Q8_0": 7, "Q6_K": 18, "Q5_0": 8, "Q4_K_M": 15, "Q4_0": 2, "Q3_K_M": 12, "Q2_K": 10}
PROMPT = "The history of the city begins with"
PREFILL, CONTEXT = 512, 512
# The goals of the runtime: of llama.cpp's tokens/s at the nearest size; above the file; of decoding the pack once.
RATE, MEMORY, FIRST = 0.7, 100e6, 1.5


def say(*words):
    print(*words, file=sys.stderr, flush=True)


def last_line(text):
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "no message"


def done(command, **more):
    """What a command printed, or the end with why it failed."""
    run = subprocess.run([str(word) for word in command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **more)
    if run.returncode:
        sys.exit(f"{' '.join(str(word) for word in command[:3])}: {last_line(run.stderr or run.stdout)}")
    return run


# ---- llama.cpp: sources, build, models


def environment(work):
    python = work / "venv" / "bin" / "python"
    if not python.exists():
        done([sys.executable, "-m", "venv", work / "venv"])
        say(f"installing {' '.join(PACKAGES)}")
        done([python, "-m", "pip", "install", "-q", *PACKAGES])
    return python


def sources(work, python):
    """llama.cpp's tree inside the unpacked package."""
    found = list((work / "sources").glob("*/vendor/llama.cpp"))
    if not found:
        say(f"downloading {SOURCES}")
        done([python, "-m", "pip", "download", "-q", "--no-deps", "--no-build-isolation", "--no-binary", "llama-cpp-python",
              "-d", work, SOURCES])
        with tarfile.open(next(work.glob("llama_cpp_python-*.tar.gz"))) as package:
            package.extractall(work / "unpacked", filter="data")
        os.replace(work / "unpacked", work / "sources")
        found = list((work / "sources").glob("*/vendor/llama.cpp"))
    return found[0]


def driver(work, python, openmp, jobs):
    """The program that runs llama.cpp, built."""
    build = work / ("build" if openmp else "build-threads")
    environ = dict(os.environ, PATH=f"{python.parent}{os.pathsep}{os.environ['PATH']}")
    if not (build / "driver").exists():
        say("building llama.cpp")
        done(["cmake", "-S", HERE, "-B", build, "-G", "Ninja", "-DCMAKE_BUILD_TYPE=Release",
              f"-DGGML_OPENMP={'ON' if openmp else 'OFF'}", f"-DLLAMA_CPP={sources(work, python)}"], env=environ)
    done(["ninja", "-C", build, f"-j{jobs}", "driver"], env=environ)
    return build / "driver"


def models(work, python, program, folder, types, threads):
    """GGUF files by type, made where they are not there or older than the folder's weights."""
    stamp = (folder / "model.safetensors").stat().st_mtime
    fresh = lambda path: path.exists() and path.stat().st_mtime > stamp
    files = {name: work / f"{folder.resolve().name}-{name}.gguf" for name in ["F16", *types]}
    if not fresh(files["F16"]):
        say(f"converting {folder}")
        done([python, HERE / "convert.py", folder, files["F16"]])
    for name in types:
        if not fresh(files[name]):
            say(f"quantizing to {name}")
            done([program, "quantize", files["F16"], files[name], TYPES[name], threads])
    return files


# ---- one measured process


def watched(command):
    """Seconds to the first byte on stdout, the peak of the resident set in bytes, stdout and stderr of a process."""
    with tempfile.TemporaryFile() as errors:
        start = time.monotonic()
        process = subprocess.Popen([str(word) for word in command], stdout=subprocess.PIPE, stderr=errors)
        out = os.read(process.stdout.fileno(), 1 << 16)
        first = time.monotonic() - start
        out += process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        errors.seek(0)
        err = errors.read().decode(errors="replace")
    if process.returncode:
        sys.exit(f"{' '.join(str(word) for word in command[:3])}: {last_line(err)}")
    # Kilobytes, and bytes on a Mac.
    return first, usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024), out.decode(errors="replace"), err


class LlamaCpp:
    def __init__(self, program, name, path, threads):
        self.program, self.name, self.path, self.threads = program, f"llama.cpp {name}", path, threads
        self.type, self.bytes, self.ours = name, path.stat().st_size, False

    def first(self, prompts):
        return watched([self.program, "run", self.path, prompts["short"], 1, self.threads])[0]

    def generate(self, prompts, tokens):
        _, memory, _, err = watched([self.program, "run", self.path, prompts["short"], tokens, self.threads])
        report = json.loads(last_line(err))
        return report["tokens"] / report["seconds"], memory

    def prefill(self, prompts):
        err = watched([self.program, "run", self.path, prompts["long"], 1, self.threads, "warm"])[3]
        report = json.loads(last_line(err))
        return report["prompt_tokens"] / report["prompt_seconds"]

    def perplexity(self, text, chunks):
        err = watched([self.program, "perplexity", self.path, text, CONTEXT, chunks, 1, self.threads])[3]
        return json.loads(last_line(err))["perplexity"]


class Benben:
    """`benben run` and `benben eval`."""

    def __init__(self, program, path, threads, budget=None):
        self.program, self.path, self.budget = program, path, budget
        self.name = f"{path.name}, {budget}" if budget else path.name
        self.common = ["--threads", threads, "--no-progress"]
        self.packed, self.ours = path.is_file(), True
        self.bytes = path.stat().st_size if self.packed else sum(f.stat().st_size for f in path.glob("*.safetensors"))

    def run(self, prompt, tokens, *more):
        more = ["--memory", self.budget, *more] if self.budget else more
        return [self.program, "run", self.path, "-p", prompt.read_text(encoding="utf-8"), "-n", tokens, *self.common, *more]

    def first(self, prompts):
        return watched(self.run(prompts["short"], 1))[0]

    def generate(self, prompts, tokens):
        _, memory, out, _ = watched(self.run(prompts["short"], tokens, "--json"))
        report = json.loads(out)
        if report["generated_tokens"] != tokens:
            say(f"{self.name}: {report['generated_tokens']} tokens, then the model ended the text")
        return report["tokens_per_second"], memory

    def prefill(self, prompts):
        out = watched(self.run(prompts["long"], 1, "--json"))[2]
        return json.loads(out)["prompt_tokens_per_second"]

    def perplexity(self, text, chunks):
        command = [self.program, "eval", self.path, "--data", text, "--context", CONTEXT, "--chunks", chunks, *self.common]
        return json.loads(watched([*command, "--json"])[2])["perplexity"]["value"]

    def decode(self):
        """Seconds to read and decode the pack once, process and all."""
        with tempfile.TemporaryDirectory(dir="/dev/shm" if os.path.isdir("/dev/shm") else None) as folder:
            times = []
            for words in (["verify", self.path], ["unpack", self.path, "-o", f"{folder}/model.safetensors"]):
                start = time.monotonic()
                done([self.program, *words, *self.common])
                times.append(time.monotonic() - start)
        return min(times)


# ---- the run and its table


def prompts(folder, work, python, text):
    """A short prompt, and the beginning of the text that is 512 tokens."""
    code = ("import sys, tokenizers; t = tokenizers.Tokenizer.from_file(sys.argv[1]); "
            "e = t.encode(open(sys.argv[2], encoding='utf-8').read()[:20000], add_special_tokens=False); "
            f"print(e.offsets[{PREFILL - 1}][1])")
    end = int(done([python, "-c", code, folder / "tokenizer.json", text]).stdout)
    files = {"short": work / "short.txt", "long": work / "long.txt"}
    files["short"].write_text(PROMPT)
    files["long"].write_text(text.read_text(encoding="utf-8")[:end], encoding="utf-8")
    return files


def measure(runs, args, texts):
    """Rows of medians, in the order of the models."""
    took = [{"first": [], "rate": [], "memory": [], "prefill": [], "decode": []} for _ in runs]
    for turn in range(args.repeat):
        for run, row in zip(runs, took):
            say(f"turn {turn + 1} of {args.repeat}: {run.name}")
            row["first"].append(run.first(texts))
            rate, memory = run.generate(texts, args.tokens)
            row["rate"].append(rate)
            row["memory"].append(memory)
            row["prefill"].append(run.prefill(texts))
            if args.first_token and run.ours and run.packed and not run.budget:
                row["decode"].append(run.decode())
    rows = []
    for run, row in zip(runs, took):
        middle = {key: statistics.median(values) if values else None for key, values in row.items()}
        about = {"packed": run.packed, "budget": run.budget} if run.ours else {}
        rows.append({"name": run.name, "ours": run.ours, **about, "bytes": run.bytes, **middle, "perplexity": None})
        # A budget changes no bit of the results.
        if args.chunks and not (run.ours and run.budget):
            say(f"perplexity: {run.name}")
            rows[-1]["perplexity"] = run.perplexity(args.text, args.chunks)
    return rows


def judge(rows):
    """Adds to our rows the type of nearest size, the ratios and the goals."""
    verdict = lambda met: "met" if met else "MISSED"
    theirs = [row for row in rows if not row["ours"]]
    for row in rows:
        row["goals"] = []
        if not row["ours"]:
            continue
        near = min(theirs, key=lambda other: abs(other["bytes"] - row["bytes"]))
        row["nearest"] = near["name"]
        row["rate_ratio"] = row["rate"] / near["rate"]
        row["prefill_ratio"] = row["prefill"] / near["prefill"]
        if row["budget"] or not row["packed"]:
            continue
        row["goals"].append(f">= {RATE} x {near['name'].split()[-1]}: {verdict(row['rate_ratio'] >= RATE)}")
        row["goals"].append(f"file + {MEMORY / 1e6:.0f} MB: {verdict(row['memory'] < row['bytes'] + MEMORY)}")
        if row["decode"]:
            row["first_ratio"] = row["first"] / row["decode"]
            row["goals"].append(f"first < {FIRST} x decode ({row['first_ratio']:.2f}): {verdict(row['first_ratio'] < FIRST)}")


def draw(rows):
    shown = []
    for row in rows:
        ratio = lambda key: f" ({row[key]:.2f} x)" if key in row else ""
        shown.append({
            "model": row["name"], "file bytes": f"{row['bytes']:,}", "tokens/s": f"{row['rate']:.1f}{ratio('rate_ratio')}",
            "prefill/s": f"{row['prefill']:.0f}{ratio('prefill_ratio')}", "first token": f"{row['first']:.2f} s",
            "decode": f"{row['decode']:.2f} s" if row["decode"] else "", "peak memory": f"{row['memory'] / 1e6:.0f} MB",
            "perplexity": f"{row['perplexity']:.3f}" if row["perplexity"] else "", "goals": ", ".join(row["goals"]),
        })
    widths = {key: max(len(key), *(len(row[key]) for row in shown)) for key in shown[0]}
    pad = lambda key, text: text.ljust(widths[key]) if key in ("model", "goals") else text.rjust(widths[key])
    filled = [key for key in widths if any(row[key] for row in shown)]
    for line in [{key: key for key in filled}, *shown]:
        print("  ".join(pad(key, line[key]) for key in filled).rstrip())


def built():
    subprocess.run(["cargo", "build", "--release", "-q", "-p", "benben-cli"], cwd=ROOT, check=True, stdout=sys.stderr)
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR") or ROOT / "target")
    return ROOT / target / "release" / "benben"


def cpu():
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return "unknown CPU"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path, help="Hugging Face folder in f16")
    parser.add_argument("--packs", type=pathlib.Path, nargs="*", default=[], help="packs of it, or the folder")
    parser.add_argument("--memory", nargs="*", default=[], metavar="SIZE", help="each pack with these budgets too [none]")
    parser.add_argument("--text", type=pathlib.Path, help="text in UTF-8 [README.md]")
    parser.add_argument("--types", nargs="*", choices=TYPES, default=["Q8_0", "Q4_0", "Q3_K_M"], metavar="TYPE",
                        help=f"beside F16, of {', '.join(TYPES)} [Q8_0 Q4_0 Q3_K_M]")
    parser.add_argument("--tokens", type=int, default=128, help="tokens to generate [128]")
    parser.add_argument("--threads", type=int, default=2, help="threads of either [2]")
    parser.add_argument("--repeat", type=int, default=3, help="turns of each [3]")
    parser.add_argument("--chunks", type=int, default=8, help="chunks of the perplexity, 0 for none [8]")
    parser.add_argument("--first-token", action="store_true", help="beside decoding the pack once")
    parser.add_argument("--no-openmp", action="store_true", help="llama.cpp with its own threads, not OpenMP's")
    parser.add_argument("--benben", type=pathlib.Path, help="the program [built]")
    parser.add_argument("--work", type=pathlib.Path, default=ROOT / "target" / "llama_cpp", help="[target/llama_cpp]")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="compilers at once [all cores]")
    parser.add_argument("--json", type=pathlib.Path, help="write the rows here too")
    parser.add_argument("--strict", action="store_true", help="end with code 3 where a goal is missed")
    args = parser.parse_args()
    args.text = args.text or ROOT / "README.md"
    args.types = [name for name in args.types if name != "F16"]
    if not shutil.which("cc") or not shutil.which("c++"):
        print("skipped: no C and C++ compiler to build llama.cpp with")
        return 0

    args.work.mkdir(parents=True, exist_ok=True)
    python = environment(args.work)
    program = driver(args.work, python, not args.no_openmp, args.jobs)
    files = models(args.work, python, program, args.folder, args.types, args.threads)
    benben = (args.benben or built()).resolve() if args.packs else None
    runs = [LlamaCpp(program, name, path, args.threads) for name, path in files.items()]
    runs += [Benben(benben, path, args.threads, budget) for path in args.packs for budget in [None, *args.memory]
             if path.is_file() or not budget]
    texts = prompts(args.folder, args.work, python, args.text)
    rows = measure(runs, args, texts)
    judge(rows)
    version = done([benben, "--version"]).stdout.strip() if benben else "without benben"
    system = done([program, "about"]).stdout.strip().rstrip("|").strip()
    # It changes how llama.cpp's threads wait, and so its speed on a machine that is shared.
    system += "".join(f" | {key}={value}" for key, value in os.environ.items() if key.startswith("OMP_"))
    about = {"cpu": cpu(), "threads": args.threads, "benben": version, "llama_cpp": f"of {SOURCES}", "system": system}
    print(f"{about['cpu']}, {args.threads} threads; {version}; llama.cpp of {SOURCES}: {system}")
    print(f"{args.folder.resolve().name}, {args.tokens} tokens after {len(PROMPT.split())} words, "
          f"{args.chunks} chunks of {args.text.name}, median of {args.repeat}\n")
    draw(rows)
    if args.json:
        args.json.write_text(json.dumps({"machine": about, "rows": rows}, indent=2))
    return 3 if args.strict and any("MISSED" in goal for row in rows for goal in row["goals"]) else 0


if __name__ == "__main__":
    sys.exit(main())
