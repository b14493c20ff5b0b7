"""The generator splitmix64: signs of node `rotate` (format-spec/expression.md), mapped codebooks of codec `rvq`
(format-spec/codecs/rvq.md)."""

import numpy as np


def outputs(seed, count):
    """The first `count` outputs from `seed`, u64."""
    z = np.uint64(seed) + np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ z >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ z >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
    return z ^ z >> np.uint64(31)
