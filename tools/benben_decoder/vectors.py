"""Holds the decoder to the golden vectors and to the files that must be refused: format-spec/vectors/README.md."""

import json
import os

from .blake3 import blake3
from .errors import BenbenError
from .reader import Reader


def check(folder):
    """Lines of what is wrong, and the numbers of packs and of refused files that were checked."""
    wrong, packs = [], 0
    for name in sorted(os.listdir(folder)):
        if name.endswith(".benben"):
            packs += 1
            path = os.path.join(folder, name)
            wrong += [f"{name}: {line}" for line in _check_pack(path, path[:-len("benben")] + "json")]
    refused = os.path.join(folder, "must-fail")
    with open(os.path.join(refused, "must-fail.json"), encoding="utf-8") as file:
        expected = json.load(file)
    for name, entry in expected.items():
        line = _check_refused(os.path.join(refused, name), entry)
        if line:
            wrong.append(f"must-fail/{name}: {line} ({entry['why']})")
    return wrong, packs, len(expected)


def _equal(data, entry):
    if "values" in entry:
        return data == bytes.fromhex(entry["values"])
    return blake3(data).hex() == entry["blake3"]


def _check_pack(path, json_path):
    with open(json_path, encoding="utf-8") as file:
        expected = json.load(file)
    wrong = []
    try:
        reader = Reader.open(path)
        reader.pack.verify()
    except BenbenError as error:
        return [str(error)]
    directory = reader.directory
    if reader.pack.root.hex() != expected["root"]:
        wrong.append("another root")
    if list(directory.tensors) != list(expected["tensors"]) or list(directory.files) != list(expected["files"]):
        wrong.append("other names")
    for name, entry in expected["tensors"].items():
        tensor = directory.tensors.get(name)
        try:
            data = reader.tensor(name).tobytes()
        except BenbenError as error:
            wrong.append(str(error))
            continue
        if tensor.dtype != entry["dtype"] or list(tensor.shape) != entry["shape"]:
            wrong.append(f"tensor {name!r}: another dtype or shape")
        if not _equal(data, entry):
            wrong.append(f"tensor {name!r}: other values")
    for name, entry in expected["files"].items():
        try:
            if not _equal(reader.file(name), entry):
                wrong.append(f"file {name!r}: other bytes")
        except BenbenError as error:
            wrong.append(str(error))
    return wrong


def _check_refused(path, entry):
    """What is wrong, or None."""
    try:
        reader = Reader.open(path)
    except BenbenError as error:
        if entry["when"] != "open":
            return f"refused when opened: {error}"
        return None if error.kind == entry["kind"] else f"{error}, not {entry['kind']}"
    if entry["when"] == "open":
        return "opened"
    for name in reader.directory.tensors:
        if name not in ("t", "broken"):
            try:
                reader.tensor(name)
            except BenbenError as error:
                return f"another tensor cannot be read: {error}"
    try:
        reader.tensor("t")
    except BenbenError as error:
        return None if error.kind == entry["kind"] else f"{error}, not {entry['kind']}"
    return "read"
