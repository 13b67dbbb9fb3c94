"""The kernels of csrc/ptx/test_kernels*.cu: their data, exact results, and how to run them.

A wrapper in csrc/ptx/ needs a kernel there and an entry in sm80.py, or in sm90.py if only sm_90a
has the instruction. A test fails for a wrapper without them.
"""

from support.ptx_wrappers import sm80, sm90
from support.ptx_wrappers.wrapper import (
    CSRC,
    MODULES,
    SM90,
    Arrays,
    Wrapper,
    entries,
    on_emulator,
    on_gpu,
    ptx,
    sources,
)

WRAPPERS = [*sm80.WRAPPERS, *sm90.WRAPPERS]

__all__ = [
    "CSRC",
    "MODULES",
    "SM90",
    "WRAPPERS",
    "Arrays",
    "Wrapper",
    "entries",
    "on_emulator",
    "on_gpu",
    "ptx",
    "sources",
]
