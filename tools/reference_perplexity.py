#!/usr/bin/env python3
"""Perplexity of a Hugging Face folder by somebody else's program, for `benben eval` to be held against.

    python3 tools/reference_perplexity.py FOLDER TEXT [--context 512] [--score all|half] [--json OUT] [--against EVAL.json]

The whole file is tokenized without special tokens and cut into chunks of exactly `--context` tokens; what is left over is
dropped. A chunk is scored from its second token to its last (`--score half`: those of its second half but the first, as
llama.cpp does), and the perplexity is exp of the mean negative log likelihood of all scored tokens. Weights and arithmetic are f32 on the CPU,
the softmax f64. `--against` reads what `benben eval --json` wrote and ends with code 3 where the two differ by more than
`--tolerance` percent.

The model is run by transformers with torch where the environment `--venv` has them, else by Apple's mlx-lm, which the
package index has for the CPU alone (355 MB; a torch from there brings gigabytes of CUDA: put one into the environment
yourself if you want it). `--backend` insists on one of them.
"""
import argparse
import json
import math
import os
import pathlib
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
# What an environment needs: packages that this script installs, None where the user has to; what an import takes; names.
BACKENDS = {
    "transformers": (None, "import torch, tokenizers; from transformers import LlamaForCausalLM", ["transformers", "torch"]),
    "mlx": (["mlx[cpu]", "mlx-lm"], "import mlx.core, mlx_lm, tokenizers", ["mlx-lm", "mlx"]),
}


def say(*words):
    print(*words, file=sys.stderr, flush=True)


# ---- what runs inside the environment


def by_transformers(folder, threads):
    """A function from token ids to logits, [tokens, vocabulary] in f32."""
    import torch
    from transformers import AutoModelForCausalLM

    torch.set_num_threads(threads)
    model = AutoModelForCausalLM.from_pretrained(folder, torch_dtype=torch.float32).eval()

    def logits(ids):
        with torch.no_grad():
            return model(torch.tensor([ids])).logits[0].numpy()

    return logits


def by_mlx(folder, _threads):
    import mlx.core as mx
    import numpy
    from mlx_lm.utils import load_model

    mx.set_default_device(mx.cpu)
    # Its compiled parts call a compiler while running, which a user may not have.
    mx.disable_compile()
    model, _ = load_model(folder)
    model.set_dtype(mx.float32)
    return lambda ids: numpy.array(model(mx.array([ids]))[0])


def losses(logits, targets):
    """Negative log likelihood of each target under its row."""
    import numpy

    rows = logits.astype(numpy.float64)
    most = rows.max(axis=1)
    return numpy.log(numpy.exp(rows - most[:, None]).sum(axis=1)) + most - rows[numpy.arange(len(targets)), targets]


def worker(args):
    from tokenizers import Tokenizer

    text = args.text.read_text(encoding="utf-8")
    tokens = Tokenizer.from_file(str(args.folder / "tokenizer.json")).encode(text, add_special_tokens=False).ids
    chunks = [tokens[at:at + args.context] for at in range(0, len(tokens) - args.context + 1, args.context)]
    chunks = chunks[:args.chunks]
    if not chunks:
        raise SystemExit(f"{args.text} has {len(tokens)} tokens, less than one chunk of {args.context}")
    logits = {"transformers": by_transformers, "mlx": by_mlx}[args.backend](args.folder, args.threads)
    # The first token that is scored is one that has been predicted: at least the second.
    first = args.context // 2 + 1 if args.score == "half" else 1
    start, means = time.monotonic(), []
    for i, chunk in enumerate(chunks):
        means.append(float(losses(logits(chunk)[first - 1:-1], chunk[first:]).mean()))
        say(f"chunk {i + 1} of {len(chunks)}: perplexity so far {math.exp(sum(means) / len(means)):.4f}")
    mean = sum(means) / len(means)
    spread = math.sqrt(sum((m - mean) ** 2 for m in means) / max(len(means) - 1, 1) / len(means))
    json.dump({
        "perplexity": math.exp(mean), "standard_error": math.exp(mean) * spread, "mean_nll": mean,
        "context": args.context, "score": args.score, "chunks": len(chunks), "tokens": len(tokens),
        "scored_tokens": len(chunks) * (args.context - first), "seconds": time.monotonic() - start, "chunk_nll": means,
    }, sys.stdout)


# ---- what runs outside


def last_line(text):
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "no message"


def environment(folder):
    """The interpreter of the environment, made where there is none."""
    python = folder / "bin" / "python"
    if not python.exists():
        done = subprocess.run([sys.executable, "-m", "venv", str(folder)], capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"skipped: venv: {last_line(done.stdout + done.stderr)}")
    return str(python)


def backend(python, asked):
    """Which program runs the model: the one asked for, else the first that is there, else the one that can be had."""
    works = lambda name: subprocess.run([python, "-c", BACKENDS[name][1]], capture_output=True, text=True)
    names = [asked] if asked else list(BACKENDS)
    for name in names:
        if works(name).returncode == 0:
            return name
    packages = BACKENDS[names[-1]][0]
    if packages is None:
        sys.exit(f"skipped: {names[-1]}: {last_line(works(names[-1]).stderr)}; install it into the environment")
    say(f"installing {' '.join(packages)}")
    done = subprocess.run([python, "-m", "pip", "install", "-q", *packages], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"skipped: pip: {last_line(done.stderr)}")
    return names[-1]


def versions(python, packages):
    code = f"import importlib.metadata as m; print(', '.join(n + ' ' + m.version(n) for n in {packages!r}))"
    return subprocess.run([python, "-c", code], capture_output=True, text=True).stdout.strip()


def compare(report, path, tolerance):
    """Whether what `benben eval --json` says agrees with the reference, over as many chunks as it has."""
    ours = json.loads(path.read_text())
    for key in ("context", "score", "tokens"):
        if ours[key] != report[key]:
            sys.exit(f"{path} has {ours[key]} as {key}, the reference {report[key]}: nothing to compare")
    chunks = report["chunk_nll"][:ours["chunks"]]
    if len(chunks) < ours["chunks"]:
        sys.exit(f"{path} has {ours['chunks']} chunks, the reference {len(chunks)}: nothing to compare")
    found, expected = ours["perplexity"]["value"], math.exp(sum(chunks) / len(chunks))
    percent = 100.0 * (found / expected - 1)
    met = abs(percent) <= tolerance
    print(f"{path}: perplexity {found:.5f} over {len(chunks)} chunks, {percent:+.4f} % off {expected:.5f} "
          f"(goal: within {tolerance} %: {'met' if met else 'MISSED'})")
    return met


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path, help="config.json, model.safetensors, tokenizer.json")
    parser.add_argument("text", type=pathlib.Path, help="text in UTF-8")
    parser.add_argument("--context", type=int, default=512, help="tokens of a chunk [512]")
    parser.add_argument("--score", choices=["all", "half"], default="all", help="tokens of a chunk that count [all]")
    parser.add_argument("--chunks", type=int, help="chunks at most [all]")
    parser.add_argument("--threads", type=int, default=2, help="threads of torch [2]")
    parser.add_argument("--backend", choices=BACKENDS, help="who runs the model [transformers if it is there, else mlx]")
    parser.add_argument("--venv", type=pathlib.Path, default=ROOT / "target" / "reference", help="[target/reference]")
    parser.add_argument("--json", type=pathlib.Path, help="write the report here too")
    parser.add_argument("--against", type=pathlib.Path, help="output of `benben eval --json`")
    parser.add_argument("--report", type=pathlib.Path, help="what --json wrote earlier, in place of another run")
    parser.add_argument("--tolerance", type=float, default=0.1, help="percent of perplexity [0.1]")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.report and not args.against:
        parser.error("--report is there to be held --against something")
    if args.worker:
        return worker(args)

    if args.report:
        return 0 if compare(json.loads(args.report.read_text()), args.against, args.tolerance) else 3
    python = environment(args.venv)
    name = backend(python, args.backend)
    command = [python, "-W", "ignore", __file__, "--worker", "--backend", name, str(args.folder), str(args.text)]
    for option in ("context", "score", "chunks", "threads"):
        if getattr(args, option) is not None:
            command += [f"--{option}", str(getattr(args, option))]
    # Nothing here is to be looked up on a hub.
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, env=dict(os.environ, HF_HUB_OFFLINE="1"))
    if done.returncode:
        return done.returncode
    report = {"by": versions(python, BACKENDS[name][2]), **json.loads(done.stdout)}
    print(f"{report['by']}, f32 on the CPU: perplexity {report['perplexity']:.5f} "
          f"(standard error {report['standard_error']:.3f}), {report['chunks']} chunks of {report['context']}, "
          f"{report['scored_tokens']:,} of {report['tokens']:,} tokens scored, {report['seconds']:.0f} s")
    if args.json:
        args.json.write_text(json.dumps(report, indent=2))
    if args.against and not compare(report, args.against, args.tolerance):
        return 3
    return 0


if __name__ == "__main__":
    sys.exit(main())
