"""Command line: see README.md beside this file."""

import os
import sys

if not __package__:
    # Started as a folder: its own modules are those of a package.
    sys.path[0] = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

try:
    import numpy  # noqa: F401
except ImportError:
    sys.exit("benben_decoder needs the package numpy")

from benben_decoder.commands import main  # noqa: E402

sys.exit(main(sys.argv[1:]))
