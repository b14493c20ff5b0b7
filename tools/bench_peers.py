#!/usr/bin/env python3
"""Beside the peers that are no Rust crates, on the same bytes: zipnn on floats, DeepCABAC (NNCodec) on integers.

    python3 tools/bench_peers.py [--model FILE] [--only zipnn|nncodec] [--rounds 3] [--json FILE]

Builds `benben`, installs zipnn and nncodec from the package index into a virtual environment (zipnn brings torch,
gigabytes; `--only nncodec` needs numpy alone), lets `benben bench --export` and the peers take turns and prints one table
of medians. A peer that cannot be had is skipped, and why is said. Speeds are CPU time of one process on both sides (zipnn
decodes in a thread of its own); every peer's output is held against its input. Floats are
decoded twice: into new memory, whose pages the system clears, which is all that zipnn offers; and into memory that was
used before, where zipnn gets an allocator that keeps what was freed. `--strict` ends with code 3 where a goal is missed.
"""
import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
# What is installed, and what an import needs. nncodec's own requirements are those of training; its coder takes numpy.
PEERS = {
    "nncodec": ([["numpy"], ["--no-deps", "nncodec"]], "from nncodec.extensions import deepCABAC"),
    "zipnn": ([["numpy", "torch", "safetensors", "zipnn"]], "import zipnn"),
}
# Most percent of the source that we promise to take, and how much faster than zipnn we decode at the least.
FLOATS = {"bf16": (66.7, 2.0), "f32": (82.0, None)}
# glibc keeps what has been freed, so that a second output of the same size costs no page faults.
KEEPS = {"MALLOC_MMAP_THRESHOLD_": str(1 << 30), "MALLOC_TRIM_THRESHOLD_": str(1 << 33)}
# How much faster than DeepCABAC.
INTEGERS = 50.0


def say(*words):
    print(*words, file=sys.stderr, flush=True)


# ---- what runs inside the environment: one peer, one pass over what was exported


def seconds(turn, least=0.5, most=5):
    """Median CPU seconds of a turn, and what the last one gave."""
    times = []
    while not times or (sum(times) < least and len(times) < most):
        start = time.process_time()
        result = turn()
        times.append(time.process_time() - start)
    return statistics.median(times), result


def run_zipnn(folder, ours):
    import zipnn

    rows = {}
    for of in ours["floats"]:
        dtype = {"bf16": "bfloat16", "f32": "float32"}[of["dtype"]]
        source = (folder / of["file"]).read_bytes()
        coder = zipnn.ZipNN(input_format="byte", bytearray_dtype=dtype, threads=1)
        # It may reorder its input in place.
        coded = bytes(coder.compress(bytearray(source)))
        taken, out = seconds(lambda: coder.decompress(coded))
        if bytes(out) != source:
            raise SystemExit(f"zipnn decodes something else than {of['file']}")
        rows[of["file"]] = {"bytes": len(coded), "per_second": len(source) / taken}
    return rows


def run_nncodec(folder, ours):
    import numpy
    from nncodec.extensions import deepCABAC

    # As its own baseline coder calls it: 10 + 1 unary bins, adaptation rates chosen by the encoder, no history.
    off = (deepCABAC.HdspMode.AlwaysOff, numpy.zeros(2, dtype=numpy.int8))
    rows = {}
    for of in ours["integers"]:
        integers = numpy.fromfile(folder / of["file"], dtype=numpy.int8)
        size, taken, at = 0, 0.0, 0
        for tensor in of["ours"]["tensors"]:
            shape = tensor["shape"]
            count = int(numpy.prod(shape))
            part = numpy.ascontiguousarray(integers[at:at + count].reshape(shape), dtype=numpy.int32)
            at += count
            encoder = deepCABAC.Encoder()
            encoder.initCtxModels(11, 1)
            encoder.encodeLayer(part, 0, 0, 0, 0, 0, numpy.zeros(shape[0], dtype=numpy.int32), *off, 0, 0)
            stream = encoder.finish()
            size += len(stream)
            out = numpy.zeros_like(part)

            def decode():
                decoder = deepCABAC.Decoder()
                decoder.setStream(stream)
                decoder.initCtxModels(11)
                decoder.decodeLayer(out, 0, 0, 0, 0, *off, 0, 0)

            taken += seconds(decode, least=0.0)[0]
            if not numpy.array_equal(part, out):
                raise SystemExit(f"DeepCABAC decodes something else than {of['file']}")
        rows[of["file"]] = {"bytes": size, "per_second": len(integers) / taken}
    return rows


def worker(name, folder):
    ours = json.loads((folder / "ours.json").read_text())["export"]
    json.dump({"zipnn": run_zipnn, "nncodec": run_nncodec}[name](folder, ours), sys.stdout)


# ---- what runs outside


def last_line(text):
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "no message"


def install(name, python):
    """None where the peer can be imported, else why not."""
    steps, probe = PEERS[name]
    works = lambda: subprocess.run([python, "-c", probe], capture_output=True, text=True)
    if works().returncode == 0:
        return None
    for packages in steps:
        say(f"installing {' '.join(p for p in packages if not p.startswith('-'))}")
        done = subprocess.run([python, "-m", "pip", "install", "-q", *packages], capture_output=True, text=True)
        if done.returncode:
            return f"pip: {last_line(done.stderr)}"
    done = works()
    return last_line(done.stderr) if done.returncode else None


def environment(folder):
    """The interpreter of the environment, or why there is none."""
    python = folder / "bin" / "python"
    if not python.exists():
        done = subprocess.run([sys.executable, "-m", "venv", str(folder)], capture_output=True, text=True)
        if done.returncode:
            return None, f"venv: {last_line(done.stdout + done.stderr)}"
    return str(python), None


def built():
    command = ["cargo", "build", "--release", "-q", "-p", "benben-cli"]
    subprocess.run(command, cwd=ROOT, check=True, stdout=sys.stderr)
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR") or ROOT / "target")
    return ROOT / target / "release" / "benben"


def version(name, python):
    code = f"import importlib.metadata as m; print(m.version('{name}'))"
    return subprocess.run([python, "-c", code], capture_output=True, text=True).stdout.strip()


def verdict(met):
    return "met" if met else "MISSED"


def table(ours, theirs):
    """One row for each file and peer: our medians beside theirs."""
    middle = lambda runs, of: statistics.median(of(run) for run in runs)
    rows = []
    for i, first in enumerate(ours[0]["floats"]):
        if "zipnn" not in theirs:
            break
        file, dtype = first["file"], first["dtype"]
        share = lambda size: 100.0 * size / first["source_bytes"]
        most, factor = FLOATS[dtype]
        for name, speed in (("zipnn", "decode_per_second"), ("zipnn, memory kept", "decode_again_per_second")):
            own = middle(ours, lambda run: run["floats"][i][speed])
            peer = middle(theirs[name], lambda run: run[file]["per_second"])
            goals = [f"<= {most} %: {verdict(share(first['bytes']) <= most)}"]
            if factor:
                goals.append(f">= {factor:g} x its speed: {verdict(own >= factor * peer)}")
            rows.append({
                "data": dtype, "peer": name, "ours": f"{share(first['bytes']):.2f} %",
                "theirs": f"{share(theirs[name][0][file]['bytes']):.2f} %",
                "our decode": f"{own / 1e9:.2f} GB/s", "their decode": f"{peer / 1e9:.2f} GB/s",
                "faster": f"{own / peer:.1f} x", "goals": ", ".join(goals),
            })
    for i, first in enumerate(ours[0]["integers"]):
        if "nncodec" not in theirs:
            break
        file, size = first["file"], first["ours"]["bytes"]
        own = middle(ours, lambda run: run["integers"][i]["ours"]["decode_per_second"])
        peer = middle(theirs["nncodec"], lambda run: run[file]["per_second"])
        other = theirs["nncodec"][0][file]["bytes"]
        bits = lambda size: f"{8.0 * size / first['ours']['weights']:.4f} bits"
        rows.append({
            "data": f"integers, {first['bits']:g} bits", "peer": "DeepCABAC", "ours": bits(size), "theirs": bits(other),
            "our decode": f"{own / 1e6:.0f} M/s", "their decode": f"{peer / 1e6:.1f} M/s",
            "faster": f"{own / peer:.1f} x",
            "goals": f"not larger: {verdict(size <= other)} ({100.0 * (size / other - 1):+.2f} %), "
                     f">= {INTEGERS:g} x its speed: {verdict(own >= INTEGERS * peer)}",
        })
    return rows


def draw(rows):
    widths = {key: max(len(key), *(len(row[key]) for row in rows)) for key in rows[0]}
    left = ("data", "peer", "goals")
    pad = lambda key, text: text.ljust(widths[key]) if key in left else text.rjust(widths[key])
    for line in [{key: key for key in rows[0]}, *rows]:
        print("  ".join(pad(key, text) for key, text in line.items()).rstrip())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    minilm = pathlib.Path(os.environ.get("BENBEN_ASSETS") or ROOT / "assets") / "minilm" / "model.safetensors"
    parser.add_argument("--model", type=pathlib.Path, help="weights [default: MiniLM of tools/fetch_assets.py, else Gaussian]")
    parser.add_argument("--only", choices=PEERS, help="one peer")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each [3]")
    parser.add_argument("--weights", type=int, help="weights at most [16 million]")
    parser.add_argument("--benben", type=pathlib.Path, help="the program [built]")
    parser.add_argument("--venv", type=pathlib.Path, default=ROOT / "target" / "peers", help="environment [target/peers]")
    parser.add_argument("--json", type=pathlib.Path, help="write the rows here too")
    parser.add_argument("--strict", action="store_true", help="end with code 3 where a goal is missed")
    parser.add_argument("--worker", nargs=2, metavar=("PEER", "DIR"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        return worker(args.worker[0], pathlib.Path(args.worker[1]))

    python, why = environment(args.venv)
    if why:
        print(f"skipped: {why}")
        return 0
    peers = []
    for name in [args.only] if args.only else PEERS:
        why = install(name, python)
        if why:
            print(f"skipped {name}: {why}")
        else:
            peers.append(name)
    if not peers:
        return 0
    benben = args.benben or built()
    model = args.model or (minilm if minilm.exists() else None)
    with tempfile.TemporaryDirectory() as folder:
        command = [str(benben), "bench", "--export", folder, "--force", "--no-progress", "--json"]
        command += [str(model)] if model else []
        command += ["--weights", str(args.weights)] if args.weights else []
        ours, theirs = [], {}
        for turn in range(args.rounds):
            say(f"round {turn + 1} of {args.rounds}")
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE)
            report = json.loads(done.stdout)
            ours.append(report["export"])
            for name in list(peers):
                one = dict(os.environ, OMP_NUM_THREADS="1", MKL_NUM_THREADS="1")
                ways = {name: one, f"{name}, memory kept": one | KEEPS} if name == "zipnn" else {name: one}
                run = [python, "-W", "ignore", __file__, "--worker", name, folder]
                for way, environ in ways.items():
                    done = subprocess.run(run, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environ)
                    if done.returncode:
                        print(f"skipped {name}: {last_line(done.stderr)}")
                        peers.remove(name)
                        for way in ways:
                            theirs.pop(way, None)
                        break
                    theirs.setdefault(way, []).append(json.loads(done.stdout))
    rows = table(ours, theirs)
    if not rows:
        return 0
    machine = report["machine"]
    versions = ", ".join(f"{name} {version(name, python)}" for name in peers)
    print(f"{machine['cpu']}, one thread; benben {machine['version']}, {versions}")
    print(f"{report['data']['weights']:,} weights: {model or 'Gaussian samples'}\n")
    draw(rows)
    if args.json:
        args.json.write_text(json.dumps({"machine": machine, "data": report["data"], "rows": rows}, indent=2))
    return 3 if args.strict and any("MISSED" in row["goals"] for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
