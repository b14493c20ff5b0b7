#!/usr/bin/env python3
"""What each ingredient buys: one language model packed to one size in ever better ways, in one table.

    python3 tools/fetch_assets.py smollm2
    python3 tools/survey.py assets/smollm2 --calib CALIBRATION_TEXT --data TEST_TEXT [--bits 3.25] [--chunks N]

Every row is a file of the same bytes for each weight of a matrix, the table of words included; it adds one ingredient to
the row before, but for the rows in brackets, which go back to the row that they name. Rounding to nearest in groups of 64
(`--bits` less the 16 bits of each group's scale) is what packs are held against: its bytes are counted, not written.
All others are packs by `benben pack` and measured by `benben eval`, bytes without tokenizer and configuration. Seconds are
of packing on this machine, without the statistics; rows after `allocation` start from the levels of the rows before. A loss is held against that of the folder as it
is: perplexity as a ratio, and the mean KL divergence in nats for each token.

Rows that need gradients or recovery are left out, and it is said, where benben is built without its feature `recover`.
Takes numpy and safetensors, in a virtual environment that it makes (`--work`).
"""
import argparse
import contextlib
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
PACKAGES = ["numpy", "safetensors"]
GROUP = 64


def say(*words):
    print(*words, file=sys.stderr, flush=True)


def done(command):
    """What a command printed, or the end with why it failed."""
    run = subprocess.run([str(word) for word in command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if run.returncode:
        lines = (run.stderr or run.stdout).strip().splitlines()
        sys.exit(f"{' '.join(str(word) for word in command[:3])}: {lines[0] if lines else 'no message'}")
    return run.stdout


# ---- what runs inside the environment


def round_to_nearest(folder, out, bits):
    """Writes the folder with its matrices rounded in groups, and prints the bytes that they would take."""
    import numpy
    from safetensors import safe_open
    from safetensors.numpy import save_file

    tensors, total, most = {}, 0, 2 ** (bits - 1)
    with safe_open(str(folder / "model.safetensors"), framework="numpy") as source:
        for name in source.keys():
            values = source.get_tensor(name)
            if values.ndim == 2:
                groups = values.astype(numpy.float32).reshape(-1, GROUP)
                # The scale that uses all levels: the largest value of a group gets the level that has no twin.
                largest = numpy.take_along_axis(groups, numpy.abs(groups).argmax(axis=1, keepdims=True), axis=1)
                scale = (largest / -most).astype(numpy.float16).astype(numpy.float32)
                inverse = numpy.divide(1, scale, out=numpy.zeros_like(scale), where=scale != 0)
                codes = numpy.clip(numpy.rint(groups * inverse), -most, most - 1)
                values = (codes * scale).reshape(values.shape).astype(values.dtype)
                total += (groups.size * bits + 16 * len(groups)) // 8
            else:
                total += values.nbytes
            tensors[name] = values
    out.mkdir(parents=True, exist_ok=True)
    save_file(tensors, str(out / "model.safetensors"))
    for file in folder.glob("*.json"):
        shutil.copy(file, out)
    print(total)


# ---- outside


def environment(work):
    python = work / "venv" / "bin" / "python"
    if not python.exists():
        done([sys.executable, "-m", "venv", work / "venv"])
        done([python, "-m", "pip", "install", "-q", *PACKAGES])
    return python


class Enough(Exception):
    """All rows that were asked for are there."""


class Survey:
    def __init__(self, args):
        self.args, self.rows = args, []
        self.work = args.work
        self.work.mkdir(parents=True, exist_ok=True)

    def eval(self, path):
        more = ["--chunks", self.args.chunks] if self.args.chunks else []
        report = json.loads(done([self.args.benben, "eval", path, "--data", self.args.data, "--context", 512,
                                  "--reference", self.args.folder, "--json", "--no-progress", *more]))
        found = report["reference"]
        return found["perplexity_ratio"]["value"], found["divergence"]["value"]

    def row(self, name, bytes_, seconds, path):
        ratio, kl = self.eval(path)
        self.rows.append({"ingredient": name, "bytes": bytes_, "ratio": ratio, "kl": kl, "seconds": seconds})
        say(f"{name}: {bytes_:,} bytes, perplexity x {ratio:.4f}, KL {kl:.4f}, {seconds:.0f} s")
        if len(self.rows) == self.args.rows:
            raise Enough

    def nearest(self):
        python, out = environment(self.work), self.work / "nearest"
        bits = int(self.args.bits - 16 / GROUP)
        start = time.monotonic()
        total = int(done([python, __file__, "--inside", self.args.folder, out, bits]))
        self.row(f"round to nearest, {bits} bits, groups of {GROUP}", total, time.monotonic() - start, out)
        shutil.rmtree(out)

    def pack(self, name, *words):
        """A row, and the bytes of its file, all counted."""
        out = self.work / "row.benben"
        start = time.monotonic()
        report = json.loads(done([self.args.benben, "pack", self.args.folder, "-o", out, "--force", "--no-progress", "--json",
                                  *words]))
        bytes_ = report["packed_bytes"] - report["file_bytes"]
        self.row(name, bytes_, time.monotonic() - start, out)
        return report["packed_bytes"]

    def tuned(self, name, *words):
        """The row before, tuned."""
        out, files = self.work / "tuned.benben", self.rows[-1]["bytes"]
        before = (self.work / "row.benben").stat().st_size - files
        start = time.monotonic()
        done([self.args.benben, "recover", self.work / "row.benben", "--model", self.args.folder, "--calib", self.args.calib,
              "-o", out, "--force", "--no-progress", *words])
        self.row(name, out.stat().st_size - before, time.monotonic() - start, out)


def draw(rows):
    print("| ingredient | bytes | perplexity / original | KL | seconds |")
    print("|---|---|---|---|---|")
    for row in rows:
        print(f"| {row['ingredient']} | {row['bytes'] / 1e6:.2f} MB | {row['ratio']:.3f} | {row['kl']:.4f} | "
              f"{row['seconds']:.0f} |")


def run(survey, args):
    bits = f"bpw={args.bits}"
    plain, rich = survey.work / "plain.calibration", survey.work / "gradients.calibration"
    start = time.monotonic()
    done([args.benben, "calibrate", args.folder, "--data", args.calib, "-o", plain, "--chunks", 64, "--force", "--no-progress"])
    say(f"statistics: {time.monotonic() - start:.0f} s")
    survey.nearest()
    survey.pack("+ entropy coding, one step", "--quantizer", f"scalar:{bits},classes=1")
    survey.pack("+ feedback", "--quantizer", f"scalar:{bits},even", "--calib", plain)
    survey.pack("+ step of each column", "--quantizer", f"scalar:{bits}", "--calib", plain)
    total = survey.pack("+ trellis", "--quantizer", f"trellis:{bits}", "--calib", plain)
    survey.pack("(+ rotation)", "--quantizer", f"trellis:{bits},rotate", "--calib", plain)
    survey.pack("(+ compensation, rank 8)", "--quantizer", f"trellis:{bits},rank=8", "--calib", plain)
    size, levels = ["--size", f"{total}B"], ["--levels", survey.work / "levels"]
    shutil.rmtree(survey.work / "levels", ignore_errors=True)
    survey.pack("+ allocation and basis, by trials", *size, "--calib", plain, "--calib", args.calib, "--effort", 2, *levels)
    if args.effort:
        survey.pack(f"(+ evolution, effort {args.effort})", *size, "--calib", plain, "--calib", args.calib, "--effort",
                    args.effort, "--recover", 0, *levels)
    start = time.monotonic()
    probe = subprocess.run([args.benben, "calibrate", args.folder, "--data", args.calib, "-o", rich, "--chunks", "64",
                            "--gradients=16", "--force", "--no-progress"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                           text=True)
    if probe.returncode:
        lines = [line for line in probe.stderr.splitlines() if line.strip()]
        print(f"skipped: gradients and recovery: {re.sub('^error: ', '', lines[0]) if lines else 'no message'}")
    else:
        say(f"statistics with gradients: {time.monotonic() - start:.0f} s")
        survey.pack("+ importance of outputs, by gradients", *size, "--calib", rich, "--effort", 2, *levels)
        survey.pack("+ order: each layer by those before", *size, "--calib", rich, "--calib", args.calib, "--effort", 2,
                    "--sequential", *levels)
        survey.tuned(f"+ recovery, {args.steps} steps", "--steps", args.steps)


def main():
    if sys.argv[1:2] == ["--inside"]:
        return round_to_nearest(pathlib.Path(sys.argv[2]), pathlib.Path(sys.argv[3]), int(sys.argv[4]))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path, help="Hugging Face folder in f16")
    parser.add_argument("--calib", type=pathlib.Path, required=True, help="text that statistics are of")
    parser.add_argument("--data", type=pathlib.Path, required=True, help="another text, that losses are of")
    parser.add_argument("--bits", type=float, default=3.25, help="of each weight of a matrix [3.25]")
    parser.add_argument("--chunks", type=int, default=0, help="of --data, 512 tokens each [all]")
    parser.add_argument("--effort", type=int, default=4, help="of the row with evolution, 0 for no such row [4]")
    parser.add_argument("--rows", type=int, help="this many and no more [all]")
    parser.add_argument("--steps", type=int, default=40, help="of recovery [40]")
    parser.add_argument("--benben", type=pathlib.Path, help="the program [built with the feature recover]")
    parser.add_argument("--work", type=pathlib.Path, default=ROOT / "target" / "survey", help="[target/survey]")
    parser.add_argument("--json", type=pathlib.Path, help="write the rows here too")
    args = parser.parse_args()
    if not args.benben:
        build = ["cargo", "build", "--release", "-q", "-p", "benben-cli", "--features", "benben-cli/recover"]
        subprocess.run(build, cwd=ROOT, check=True, stdout=sys.stderr)
        args.benben = pathlib.Path(os.environ.get("CARGO_TARGET_DIR") or ROOT / "target") / "release" / "benben"

    survey = Survey(args)
    with contextlib.suppress(Enough):
        run(survey, args)
    draw(survey.rows)
    if args.json:
        args.json.write_text(json.dumps(survey.rows, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
