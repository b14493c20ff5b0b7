"""The commands list, values, vectors and compare."""

import argparse
import os
import sys
import time

import numpy as np

from . import dtypes, safetensors, vectors, zstd
from .errors import BenbenError
from .reader import Reader


def _list(args):
    reader = Reader.open(args.pack)
    directory = reader.directory
    print(f"root {reader.pack.root.hex()}, written by {directory.generator}")
    for tensor in directory.tensors.values():
        leaves = [node for node in tensor.expr.walk() if node.is_leaf]
        size = sum(int(directory.segments["len"][leaf.segment]) for leaf in leaves)
        nodes = " ".join(node.name for node in tensor.expr.walk())
        print(f"{tensor.name}  {tensor.dtype} {list(tensor.shape)}  {size} bytes  {nodes}")
    for file in directory.files.values():
        print(f"{file.name}  {file.leaf.shape[0]} bytes")
    return 0


def _values(args):
    reader = Reader.open(args.pack)
    bits = reader.tensor(args.tensor)
    tensor = reader.directory.tensors[args.tensor]
    if args.bytes:
        sys.stdout.buffer.write(bits.tobytes())
        return 0
    if tensor.dtype in dtypes.FLOATS and tensor.dtype != "f64":
        values = dtypes.to_f32(bits, tensor.dtype)
    else:
        values = bits if tensor.dtype == "bool" else bits.view({"f": "<f", "i": "<i", "u": "<u"}[tensor.dtype[0]]
                                                              + str(dtypes.SIZES[tensor.dtype]))
    print(np.array2string(values.reshape(tensor.shape), threshold=1000 if not args.all else values.size + 1))
    return 0


def _vectors(args):
    wrong, packs, refused = vectors.check(args.folder)
    for line in wrong:
        print(line)
    print(f"{packs} packs and {refused} files that must be refused: {len(wrong) or 'nothing'} wrong")
    return 1 if wrong else 0


def _compare(args):
    start = time.monotonic()
    reader = Reader.open(args.pack)
    reader.pack.verify()
    expected = safetensors.read_all(args.unpacked)
    wrong = [f"{name}: only in one of the two" for name in set(expected) ^ set(reader.directory.tensors)]
    elements = 0
    for name, tensor in reader.directory.tensors.items():
        if name not in expected:
            continue
        dtype, shape, data = expected[name]
        if (dtype, shape) != (tensor.dtype, tensor.shape):
            wrong.append(f"{name}: {tensor.dtype} {list(tensor.shape)} against {dtype} {list(shape)}")
            continue
        bits = reader.tensor(name)
        elements += len(bits)
        differ = np.flatnonzero(bits != np.frombuffer(data, bits.dtype))
        if len(differ):
            wrong.append(f"{name}: {len(differ)} of {len(bits)} elements differ, the first at {differ[0]}")
    files = 0
    for name in reader.directory.files if os.path.isdir(args.unpacked) else ():
        with open(os.path.join(args.unpacked, name), "rb") as file:
            files += 1
            if file.read() != reader.file(name):
                wrong.append(f"file {name}: other bytes")
    for line in wrong:
        print(line)
    print(f"{args.pack}: {len(reader.directory.tensors)} tensors of {elements} elements and {files} files, "
          f"{len(wrong) or 'nothing'} wrong, {time.monotonic() - start:.1f} s")
    return 1 if wrong else 0


def main(arguments):
    """Runs a command; gives the exit code: 0, 1 where something is wrong, 2 for usage."""
    parser = argparse.ArgumentParser(prog="benben_decoder", description="An independent decoder of Benben packs.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    command = commands.add_parser("list", help="what a pack holds")
    command.add_argument("pack")
    command.set_defaults(run=_list)
    command = commands.add_parser("values", help="the elements of a tensor")
    command.add_argument("pack")
    command.add_argument("tensor")
    command.add_argument("--all", action="store_true", help="print all elements, also of a large tensor")
    command.add_argument("--bytes", action="store_true", help="write the little-endian elements")
    command.set_defaults(run=_values)
    command = commands.add_parser("vectors", help="check the golden vectors and the files that must be refused")
    command.add_argument("folder")
    command.set_defaults(run=_vectors)
    command = commands.add_parser("compare", help="hold a pack to what `benben unpack` made of it, bit for bit")
    command.add_argument("pack")
    command.add_argument("unpacked", help="a .safetensors file, or a folder of weights and files")
    command.set_defaults(run=_compare)
    args = parser.parse_args(arguments)
    if zstd.missing():
        print(f"note: {zstd.missing()}", file=sys.stderr)
    try:
        return args.run(args)
    except BenbenError as error:
        print(error, file=sys.stderr)
        return 1
