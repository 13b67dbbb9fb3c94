"""Ceilings of the machine: the rates of a copy and of a large matrix product of random numbers.

On the CPU, NumPy copies with one thread per core, and BLAS multiplies with as many. On a GPU,
PyTorch runs both if it is installed, else CuPy.
"""

from __future__ import annotations

import contextlib
import importlib
import math
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from ...backends.threads import blas_libraries, run_blocks
from ...system.cpus import get_num_threads
from ..clock import Clock, HostClock, cupy_clock, torch_clock
from ..work import Job, Work
from . import Absent, Program

COPY_BYTES, GPU_COPY_BYTES = 256 << 20, 2 << 30
SIDE, GPU_SIDE = 2048, 8192
CHUNKS_PER_CORE = 4


def works(job: Job) -> list[Work]:
    """Return the copy, with the shape [bytes], and the matrix product, with the shape [M, N, K]."""
    side, nbytes = (GPU_SIDE, GPU_COPY_BYTES) if job.on_gpu else (SIDE, COPY_BYTES)
    return [Work("ceiling", "copy", (nbytes,)), Work("ceiling", "matmul", (side,) * 3)]


def start(job: Job) -> Any:
    """Return the library for the job's device."""
    return OnGpu(job) if job.on_gpu else OnCpu()


class OnCpu:
    """Ceilings on the CPU, with NumPy."""

    def __init__(self) -> None:
        self.versions = {"numpy": np.__version__}
        if any(each["num_threads"] != get_num_threads() for each in blas_libraries()):
            threadpool_limits(get_num_threads(), "blas")

    def prepare(self, work: Work) -> Program:
        """Build a program for ``work``."""
        if work.name == "copy":
            source, target = np.ones(work.shape, np.uint8), np.ones(work.shape, np.uint8)
            step = -(-len(source) // (get_num_threads() * CHUNKS_PER_CORE))
            blocks = [slice(i, i + step) for i in range(0, len(source), step)]

            def copy(_: int) -> None:
                run_blocks(lambda block: np.copyto(target[block], source[block]), blocks)

            return Program(copy, lambda: None, HostClock())
        a, b = (_random(work.shape[0]) for _ in range(2))
        out = np.empty_like(a)
        return Program(lambda _: np.matmul(a, b, out=out), lambda: None, HostClock())


class OnGpu:
    """Ceilings on a GPU, with PyTorch or CuPy."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.versions: dict[str, str] = {}
        torch: Any = None
        with contextlib.suppress(ImportError):
            torch = importlib.import_module("torch")
        self.torch: Any = torch if torch is not None and torch.cuda.is_available() else None
        stored = "float32" if job.dtype == "tf32" else job.dtype
        if self.torch is not None:
            torch.backends.cuda.matmul.allow_tf32 = job.dtype == "tf32"
            torch.cuda.set_stream(torch.cuda.Stream(job.device))
            self.clock: Clock = torch_clock(torch.cuda.current_stream())
            self.dtype: Any = getattr(torch, stored)
        else:
            import cupy

            self.device = cupy.cuda.Device(int(job.device.partition(":")[2] or 0))
            with self.device:
                self.stream = cupy.cuda.Stream(non_blocking=True)
                self.clock, self.dtype = cupy_clock(self.stream), stored

    def prepare(self, work: Work) -> Program:
        """Build a program for ``work``."""
        return self._in_torch(work) if self.torch is not None else self._in_cupy(work)

    def _in_torch(self, work: Work) -> Program:
        torch, device = self.torch, self.job.device
        if work.name == "copy":
            a = torch.empty(work.shape, dtype=torch.uint8, device=device).random_()
            b = torch.empty_like(a)
            return Program(lambda _: b.copy_(a), lambda: None, self.clock)
        x, w = (torch.randn(work.shape[:2], device=device).to(self.dtype) for _ in range(2))
        y = torch.empty_like(x)
        return Program(lambda _: torch.matmul(x, w, out=y), lambda: None, self.clock)

    def _in_cupy(self, work: Work) -> Program:
        import cupy

        if work.name == "matmul" and self.job.dtype in ("tf32", "bfloat16"):
            raise Absent(f"CuPy has no {self.job.dtype} products, and PyTorch is not installed")
        with self.device, self.stream:
            if work.name == "copy":
                a = cupy.random.randint(0, 256, work.shape, cupy.uint8)
                b = cupy.empty_like(a)

                def run() -> Any:
                    return cupy.copyto(b, a)
            else:
                x, w = (
                    cupy.random.standard_normal(work.shape[:2], cupy.float32).astype(self.dtype)
                    for _ in range(2)
                )
                y = cupy.empty_like(x)

                def run() -> Any:
                    return cupy.matmul(x, w, out=y)

            self.stream.synchronize()

        def call(_: int) -> None:
            with self.device, self.stream:
                run()

        return Program(call, lambda: None, self.clock)


def flops(work: Work) -> int:
    """Return the FLOPs of the matrix product."""
    return 2 * math.prod(work.shape)


def _random(side: int) -> Any:
    return np.random.default_rng(side).standard_normal((side, side), dtype=np.float32)
