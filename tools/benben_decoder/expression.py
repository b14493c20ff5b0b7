"""Expressions: signatures and values. format-spec/expression.md."""

import math

import numpy as np

from . import codecs, dtypes, splitmix
from .errors import COMPATIBILITY, LIMIT, UNSUPPORTED, BenbenError, require
from .leaf import MAX_BYTES, Leaf

MAX_DIMENSIONS = 16


def matrix(shape):
    """Rows and columns of the matrix view."""
    return (shape[0], math.prod(shape[1:])) if shape else (1, 1)


def _check_limits(shape, dtype):
    if len(shape) > MAX_DIMENSIONS:
        raise BenbenError(LIMIT, f"{len(shape)} dimensions")
    elements = math.prod(shape)
    if elements >= 1 << 63 or elements * max(4, dtypes.SIZES[dtype]) > MAX_BYTES:
        raise BenbenError(LIMIT, f"a value of shape {list(shape)} is larger than {MAX_BYTES} bytes")


class Evaluator:
    """Signatures and values of the expressions of one pack."""

    def __init__(self, pack):
        self.pack = pack
        self.tensors = pack.directory.tensors

    # Signatures

    def signature(self, node):
        """Shape and dtype of a node's value, from the leaves up; all that can be checked without decoding is."""
        if node.is_leaf:
            found = node.shape, node.dtype
        elif not node.known:
            found = self.signature(self._operand_of_unknown(node))
        else:
            found = getattr(self, f"_sign_{node.name}")(node)
        _check_limits(*found)
        return found

    @staticmethod
    def _operand_of_unknown(node):
        if node.ancillary and len(node.of) == 1:
            return node.of[0]
        raise BenbenError(COMPATIBILITY, f"node {node.name!r} in version {node.version} is not known")

    def _floats(self, nodes, what):
        found = [self.signature(node) for node in nodes]
        require(all(dtype in dtypes.FLOATS for _, dtype in found), f"{what} that are no floats")
        return [shape for shape, _ in found]

    def _sign_sum(self, node):
        shapes = self._floats(node.of, "terms")
        require(all(shape == shapes[0] for shape in shapes), "terms of different shapes")
        return shapes[0], "f32"

    def _sign_product(self, node):
        shapes = self._floats(node.of, "factors")
        if len(shapes) == 1:
            return shapes[0], "f32"
        require(len(shapes[0]) > 0, "a first factor without dimensions")
        for left, right in zip(shapes, shapes[1:]):
            require(matrix(left)[1] == matrix(right)[0], f"factors {list(left)} and {list(right)} do not fit")
            # The chain from the left is a value on the way.
            _check_limits((shapes[0][0], matrix(right)[1]), "f32")
        return shapes[0][:1] + shapes[-1][1:], "f32"

    def _sign_ref(self, node):
        self.check_entry(self.tensors[node.params["tensor"]])
        return node.shape, node.dtype

    def _sign_sparse(self, node):
        if math.prod(node.shape) >= 1 << 63:
            raise BenbenError(LIMIT, f"a value of shape {list(node.shape)}")
        rows, columns = matrix(node.shape)
        g, h = node.params["group"]
        require(g >= 1 and h >= 1 and rows % g == 0 and columns % h == 0, f"groups {g} x {h} do not tile the matrix")
        mask_shape, mask_dtype = self.signature(node.of[0])
        require(mask_dtype in ("u8", "bool"), f"a mask of {mask_dtype}")
        require(math.prod(mask_shape) == (rows // g) * (columns // h), "a mask of another number of groups")
        shape, = self._floats(node.of[1:], "values")
        require(matrix(shape)[1] == g * h, f"values of {matrix(shape)[1]} columns for groups of {g * h}")
        return node.shape, "f32"

    def _sign_scale(self, node):
        shapes = self._floats(node.of, "operands")
        sides = [count for count, there in zip(matrix(shapes[-1]), self._sides(node)) if there]
        for shape, count in zip(shapes, sides):
            require(math.prod(shape) == count, f"{math.prod(shape)} factors for {count} rows or columns")
        return shapes[-1], self.signature(node.of[-1])[1]

    @staticmethod
    def _sides(node):
        return node.params["rows"], node.params["columns"]

    def _sign_permute(self, node):
        axis = node.params["axis"]
        require(axis in (0, 1), f"axis {axis}")
        order_shape, order_dtype = self.signature(node.of[0])
        shape, dtype = self.signature(node.of[1])
        require(order_dtype == "u32", f"an order of {order_dtype}")
        require(math.prod(order_shape) == matrix(shape)[axis], "an order of another length")
        return shape, dtype

    def _sign_transpose(self, node):
        shape, = self._floats(node.of, "an operand")
        require(len(shape) == 2, f"a transposed value of shape {list(shape)}")
        return shape[::-1], self.signature(node.of[0])[1]

    def _sign_rotate(self, node):
        shape, = self._floats(node.of, "an operand")
        block = node.params["block"]
        require(block > 0 and block & (block - 1) == 0, f"blocks of {block}")
        require(matrix(shape)[1] % block == 0, f"blocks of {block} do not divide {matrix(shape)[1]} columns")
        return shape, self.signature(node.of[0])[1]

    def check_entry(self, tensor):
        """Section 2, step 2: the expression's signature must fit the tensor's entry."""
        shape, dtype = self.signature(tensor.expr)
        require(shape == tensor.shape, f"an expression of shape {list(shape)} for a tensor of {list(tensor.shape)}")
        require(dtype == tensor.dtype or dtype in dtypes.FLOATS and tensor.dtype in dtypes.COMPUTED,
                f"an expression of {dtype} for a tensor of {tensor.dtype}")
        _check_limits(tensor.shape, tensor.dtype)

    # Values

    def materialize(self, tensor):
        """The elements of a tensor as it is handed out, as bits of its dtype, flat."""
        self.check_entry(tensor)
        self._check_codecs(tensor.expr)
        node = self._reduced(tensor.expr)
        if node.is_leaf and node.name == "raw" and node.dtype == tensor.dtype:
            return self._decode(node)
        if tensor.dtype not in dtypes.COMPUTED:
            raise BenbenError(UNSUPPORTED, f"a computed value in dtype {tensor.dtype}")
        return dtypes.from_f32(self.f32(tensor.expr), tensor.dtype)

    def _check_codecs(self, expr):
        """Codecs come after the signature and before any decoding, so that what is not known is called just that."""
        for node in expr.walk():
            if node.is_leaf:
                codecs.check_known(node)
            elif node.is_ref:
                self._check_codecs(self.tensors[node.params["tensor"]].expr)

    def _reduced(self, node):
        """A node without the references and unknown ancillary nodes on top of it."""
        while not node.is_leaf:
            if node.is_ref:
                node = self.tensors[node.params["tensor"]].expr
            elif not node.known:
                node = self._operand_of_unknown(node)
            else:
                break
        return node

    def _decode(self, node):
        out = codecs.decode(Leaf(self.pack, node))
        assert len(out) == math.prod(node.shape)
        return out

    def bits(self, node):
        """Bits of a mask or an order, which a raw leaf must hold."""
        node = self._reduced(node)
        if not node.is_leaf:
            raise BenbenError(UNSUPPORTED, f"a mask or order that a node {node.name!r} computes")
        return self._decode(node)

    def f32(self, node):
        """A value in f32, flat."""
        node = self._reduced(node)
        if node.is_leaf:
            values = self._decode(node)
            return dtypes.to_f32(values, node.dtype) if node.name == "raw" else values
        with np.errstate(all="ignore"):
            return getattr(self, f"_value_{node.name}")(node)

    def _matrix(self, node):
        return self.f32(node).reshape(matrix(self.signature(node)[0]))

    def _value_sum(self, node):
        total = self.f32(node.of[0])
        for term in node.of[1:]:
            total = total + self.f32(term)
        return total

    def _value_product(self, node):
        left = self._matrix(node.of[0])
        for factor in node.of[1:]:
            right = self._matrix(factor)
            acc = np.zeros((left.shape[0], right.shape[1]), np.float32)
            for k in range(left.shape[1]):
                acc = acc + left[:, k:k + 1] * right[k]
            left = acc
        return left.reshape(-1)

    def _value_sparse(self, node):
        rows, columns = matrix(node.shape)
        g, h = node.params["group"]
        mask = self.bits(node.of[0]) != 0
        values = self._matrix(node.of[1])
        require(len(values) == int(mask.sum()), f"{len(values)} groups of values, the mask keeps {mask.sum()}")
        out = np.zeros((len(mask), g * h), np.float32)
        out[mask] = values
        return out.reshape(rows // g, columns // h, g, h).transpose(0, 2, 1, 3).reshape(-1)

    def _value_scale(self, node):
        value = self._matrix(node.of[-1])
        rows, columns = self._sides(node)
        if rows:
            value = value * self.f32(node.of[0])[:, None]
        if columns:
            value = value * self.f32(node.of[1 if rows else 0])
        return value.reshape(-1)

    def _value_permute(self, node):
        axis = node.params["axis"]
        order = self.bits(node.of[0])
        value = self._matrix(node.of[1])
        require(not (order >= value.shape[axis]).any(), "a position past the rows or columns")
        return value.take(order.astype(np.intp), axis=axis).reshape(-1)

    def _value_transpose(self, node):
        return self._matrix(node.of[0]).T.reshape(-1)

    def _value_rotate(self, node):
        value = self._matrix(node.of[0])
        block, shape = node.params["block"], value.shape
        half = 1
        while half < block:
            pairs = value.reshape(-1, 2, half)
            value = np.stack([pairs[:, 0] + pairs[:, 1], pairs[:, 0] - pairs[:, 1]], axis=1)
            half *= 2
        factor = np.float32(1) / np.sqrt(np.float32(block))
        value = (value * factor).reshape(shape)
        return np.where(signs(node.params["seed"], shape[1]), -value, value).reshape(-1)


def signs(seed, columns):
    """Which columns change their sign: bits of splitmix64."""
    words = splitmix.outputs(seed, -(-columns // 64)).astype("<u8")
    return np.unpackbits(words.view(np.uint8), bitorder="little")[:columns].astype(bool)
