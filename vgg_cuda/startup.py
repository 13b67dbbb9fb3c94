"""Quiet end of the command by Ctrl-C while the package is being imported.

The imports take a few tenths of a second. ``cli.main`` installs its handler of signals after them;
before, Python's own handler would print a traceback.
"""

from __future__ import annotations

import os
import signal
import sys


def is_command() -> bool:
    """Return whether this process is ``vgg-cuda`` or ``python -m vgg_cuda``."""
    if not sys.argv or sys.argv[0] != "-m":  # "-m": the package of python -m is being imported
        return bool(sys.argv) and os.path.basename(sys.argv[0]) == "vgg-cuda"
    return ("-m", "vgg_cuda") in zip(sys.orig_argv, sys.orig_argv[1:], strict=False)


if is_command() and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
