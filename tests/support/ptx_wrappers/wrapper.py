"""One PTX wrapper as a test: its kernel, inputs and exact results, and how to run it."""

from __future__ import annotations

import os
import re
import struct
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from support.ptx_programs import aligned

from vgg_cuda import _C

PORTABLE, SM90 = MODULES = ("ptx/test_kernels", "ptx/test_kernels_sm90")
CSRC = Path(__file__).parents[3] / "csrc"
LANES = 32
ITEMS = 64  # blocks

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class Map:
    """A tensor map of a whole array, with the 128-byte swizzle, as a kernel's argument.

    ``box`` is the size of one copy, the contiguous dimension first.
    """

    ALIGNMENT = 64
    box: tuple[int, ...]

    def encode(self, encoder: Callable[..., bytes], address: int, array: np.ndarray) -> bytes:
        """Encode the map by ``_C.emulator_tensor_map``, or by ``_C.gpu_tensor_map`` for a GPU."""
        dims, strides = array.shape[::-1], array.strides[-2::-1]
        return encoder(address, array.dtype.name, dims, strides, box=self.box, swizzle=128)


@dataclass(frozen=True)
class Wrapper:
    """A kernel that calls wrappers, with its inputs and exact result.

    ``covers`` names the functions of csrc/ptx/ that ``kernel`` calls, for example "max_nan" or
    "mma<__half>". ``inputs`` draws the arrays, and ``expected`` computes the result from the
    instruction's description. ``out`` is the result's shape per item and its dtype. ``bound``
    limits the error on a GPU; None demands the same bits. ``maps`` holds the arrays, possibly
    "out", that are passed as tensor maps. ``access`` is the emulator's access to "out".
    """

    kernel: str
    covers: tuple[str, ...]
    inputs: Callable[[np.random.Generator], Arrays]
    expected: Callable[..., np.ndarray]
    out: tuple[tuple[int, ...], str]
    bound: Callable[..., np.ndarray] | None = None
    module: str = PORTABLE
    threads: int = LANES
    smem: int = 0
    maps: dict[str, Map] = field(default_factory=dict)
    access: str = "write_once"

    def arrays(self) -> Arrays:
        drawn = self.inputs(np.random.default_rng(1))
        return {name: aligned(np.ascontiguousarray(x)) for name, x in drawn.items()}


def preprocessed(path: Path) -> str:
    """Return the text with macros expanded, without comments, directives and included files."""
    text = re.sub(r"^#include.*$", "", path.read_text(), flags=re.MULTILINE)
    compiler = [os.environ.get("CXX", "c++"), "-E", "-P", "-x", "c++", "-"]
    return subprocess.run(compiler, input=text, capture_output=True, text=True, check=True).stdout


def sources() -> dict[str, set[str]]:
    """Return the functions of each file in csrc/ptx/; specialisations stand for their template."""
    found = {}
    for path in sorted((CSRC / "ptx").glob("*.cuh")):
        text = preprocessed(path)
        names = set(re.findall(r"__device__[^;{}()]*?\b(\w+(?:<[^<>()]*>)?)\s*\(", text))
        special = {name.partition("<")[0] for name in names if "<" in name}
        found[path.name] = names - special
    return found


def ptx(module: str) -> str:
    return _C.emulator_modules()[module]


def entries(module: str) -> set[str]:
    return set(re.findall(r"\.entry (\w+)", ptx(module)))


def on_emulator(wrapper: Wrapper, inputs: Arrays) -> np.ndarray:
    shape, dtype = wrapper.out
    y = aligned(np.zeros((ITEMS, *shape), dtype))
    arrays = {**inputs, "out": y}
    params = b""
    for name, x in arrays.items():
        if name in wrapper.maps:
            params += bytes(-len(params) % Map.ALIGNMENT)
            params += wrapper.maps[name].encode(_C.emulator_tensor_map, x.ctypes.data, x)
        else:
            params += struct.pack("<Q", x.ctypes.data)
    _C.Emulator(workers=1).launch(
        ptx(wrapper.module), wrapper.kernel, grid=(ITEMS, 1, 1), block=(wrapper.threads, 1, 1),
        params=params, smem_bytes=wrapper.smem,
        buffers=[(name, x, wrapper.access if x is y else "read") for name, x in arrays.items()],
    )  # fmt: skip
    return y


def on_gpu(wrapper: Wrapper, inputs: Arrays, module: Any) -> np.ndarray:
    """Run the kernel of ``module``, a ``cupy.RawModule`` of ``ptx(wrapper.module)``."""
    import cupy

    shape, dtype = wrapper.out
    y = cupy.zeros((ITEMS, *shape), dtype)
    arrays = {name: cupy.asarray(x.view(f"u{x.itemsize}")) for name, x in inputs.items()}
    arguments = []
    for name, x in {**arrays, "out": y}.items():
        if name in wrapper.maps:  # CuPy passes a NumPy array of one element by value
            tensor_map = wrapper.maps[name].encode(_C.gpu_tensor_map, x.data.ptr, x)
            arguments.append(np.frombuffer(tensor_map, f"V{len(tensor_map)}"))
        else:
            arguments.append(x)
    kernel = module.get_function(wrapper.kernel)
    kernel((ITEMS,), (wrapper.threads,), tuple(arguments), shared_mem=wrapper.smem)
    return cupy.asnumpy(y)


def integers(rng: np.random.Generator, *shape: int, dtype: str = "uint32") -> np.ndarray:
    kind = np.iinfo(dtype)
    return rng.integers(kind.min, kind.max, (ITEMS, *shape), dtype, endpoint=True)
