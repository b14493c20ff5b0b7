#!/usr/bin/env python3
"""What packing a language model to a size costs, and how that grows with the model: time and memory, in one table.

    python3 tools/fetch_assets.py smollm2
    python3 tools/growth.py examples/models/demo:1:512 examples/models/demo assets/smollm2:1:2048 assets/smollm2 \\
        --calib CALIBRATION_TEXT --efforts 4 7

`FOLDER:LAYERS:WORDS` stands for the first LAYERS layers and the first WORDS words of the model in FOLDER, whose byte-level
BPE knows those words alone then: no good model, but the work of one of that size. All are packed from the text to `--bits`
for each weight of the file, nothing kept from one to the next, statistics and (from effort 5 on) gradients and recovery
included. Time is by the clock and of all cores in use, memory the peak of the resident set.

Through what the sizes of one effort took goes a power of the number of weights, by least squares of logarithms, and for
memory a straight line: by them it is guessed what `--for` weights would take.
"""
import argparse
import json
import math
import os
import pathlib
import shutil
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
PACKAGES = ["numpy", "safetensors"]


def say(*words):
    print(*words, file=sys.stderr, flush=True)


# ---- what runs inside the environment


def cut(folder, out, layers, words):
    """Writes the first layers and words of a model."""
    from safetensors import safe_open
    from safetensors.numpy import save_file

    config = json.loads((folder / "config.json").read_text())
    config |= {"num_hidden_layers": layers, "vocab_size": words}
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    model = tokenizer["model"]
    model["vocab"] = {word: at for word, at in model["vocab"].items() if at < words}
    made = lambda merge: "".join(merge.split(" ") if isinstance(merge, str) else merge)
    model["merges"] = [merge for merge in model["merges"] if made(merge) in model["vocab"]]
    tokenizer["added_tokens"] = [token for token in tokenizer["added_tokens"] if token["id"] < words]
    tensors = {}
    with safe_open(str(folder / "model.safetensors"), framework="numpy") as source:
        for name in source.keys():
            parts = name.split(".")
            if "layers" in parts and int(parts[parts.index("layers") + 1]) >= layers:
                continue
            values = source.get_tensor(name)
            tensors[name] = values[:words].copy() if "embed_tokens" in name or "lm_head" in name else values
    out.mkdir(parents=True)
    (out / "config.json").write_text(json.dumps(config))
    (out / "tokenizer.json").write_text(json.dumps(tokenizer))
    save_file(tensors, str(out / "model.safetensors"))


# ---- outside


def model(work, name):
    """The folder of a model that is named on the command line."""
    folder, *parts = name.split(":")
    if not parts:
        return pathlib.Path(folder)
    out = work / name.replace("/", "_").replace(":", "-")
    shutil.rmtree(out, ignore_errors=True)
    python = work / "venv" / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", work / "venv"], check=True)
        subprocess.run([python, "-m", "pip", "install", "-q", *PACKAGES], check=True)
    subprocess.run([python, __file__, "--inside", folder, out, *parts], check=True)
    return out


def pack(args, folder, effort):
    """Weights, packed bytes, seconds by the clock and of processors, and the peak of memory."""
    out = args.work / "row.benben"
    command = [args.benben, "pack", folder, "-o", out, "--force", "--bpw", args.bits, "--calib", args.calib, "--effort", effort,
               "--no-progress"]
    start = time.monotonic()
    # What it says of losses goes where this program talks.
    run = subprocess.Popen([str(word) for word in command], stdout=sys.stderr)
    _, status, used = os.wait4(run.pid, 0)
    seconds = time.monotonic() - start
    if status:
        sys.exit(f"packing {folder} at effort {effort} failed")
    found = json.loads(subprocess.run([args.benben, "inspect", out, "--json"], check=True, stdout=subprocess.PIPE).stdout)
    return {"folder": str(folder), "effort": effort, "weights": found["weights"], "bytes": found["packed_bytes"],
            "seconds": seconds, "processor": used.ru_utime + used.ru_stime, "memory": used.ru_maxrss * 1024}


def fit(points):
    """`offset` and `slope` of the straight line that is nearest to points."""
    x, y = (sum(point[i] for point in points) / len(points) for i in (0, 1))
    slope = sum((a - x) * (b - y) for a, b in points) / sum((a - x) ** 2 for a, _ in points)
    return y - slope * x, slope


class Law:
    """How what packing takes grows with the number of weights."""

    def __init__(self, rows):
        logarithms = lambda what: [(math.log(row["weights"]), math.log(row[what])) for row in rows]
        self.times = {what: fit(logarithms(what)) for what in ("seconds", "processor")}
        self.memory = fit([(row["weights"], row["memory"]) for row in rows])

    def guess(self, weights):
        times = {what: math.exp(offset + slope * math.log(weights)) for what, (offset, slope) in self.times.items()}
        return {"weights": weights, "memory": self.memory[0] + self.memory[1] * weights} | times

    def __str__(self):
        return (f"time grows with the power {self.times['seconds'][1]:.2f} of the number of weights, processor time with "
                f"{self.times['processor'][1]:.2f}; memory by {self.memory[1]:.1f} bytes for each weight")


def line(name, effort, row):
    clock = lambda seconds: f"{seconds:,.0f} s" if seconds < 7200 else f"{seconds / 3600:,.1f} h"
    print(f"| {name} | {effort} | {row['weights'] / 1e6:,.1f} M | {clock(row['seconds'])} | {clock(row['processor'])} | "
          f"{row['memory'] / 1e9:.2f} GB |", flush=True)


def main():
    if sys.argv[1:2] == ["--inside"]:
        return cut(pathlib.Path(sys.argv[2]), pathlib.Path(sys.argv[3]), int(sys.argv[4]), int(sys.argv[5]))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", help="Hugging Face folders in f16, FOLDER or FOLDER:LAYERS:WORDS, two or more")
    parser.add_argument("--calib", type=pathlib.Path, required=True, help="text")
    parser.add_argument("--bits", type=float, default=3.25, help="of each weight, all counted [3.25]")
    parser.add_argument("--efforts", type=int, nargs="+", default=[4, 7], help="[4 7]")
    parser.add_argument("--for", type=float, nargs="+", default=[1e9, 8e9], dest="sizes", help="weights [1e9 8e9]")
    parser.add_argument("--benben", type=pathlib.Path, help="the program [built with the feature recover]")
    parser.add_argument("--work", type=pathlib.Path, default=ROOT / "target" / "growth", help="[target/growth]")
    parser.add_argument("--json", type=pathlib.Path, help="write the rows here too")
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    if not args.benben:
        build = ["cargo", "build", "--release", "-q", "-p", "benben-cli", "--features", "benben-cli/recover"]
        subprocess.run(build, cwd=ROOT, check=True, stdout=sys.stderr)
        args.benben = pathlib.Path(os.environ.get("CARGO_TARGET_DIR") or ROOT / "target") / "release" / "benben"

    folders, by_effort = [(name, model(args.work, name)) for name in args.models], []
    print("| model | effort | weights | by the clock | all cores | peak memory |")
    print("|---|---|---|---|---|---|")
    for effort in args.efforts:
        rows = []
        for name, folder in folders:
            say(f"effort {effort}: {name}")
            rows.append(pack(args, folder, effort))
            line(name, effort, rows[-1])
        by_effort.append(rows)
        law = Law(rows)
        for weights in args.sizes:
            line("a guess", effort, law.guess(weights))
        say(f"effort {effort}: {law}")
    if args.json:
        args.json.write_text(json.dumps(by_effort, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
