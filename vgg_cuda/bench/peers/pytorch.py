"""PyTorch, eager: channels_last, cuDNN in benchmark mode, a CUDA graph on a GPU."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ...system.cpus import get_num_threads
from ..clock import Clock, HostClock, torch_clock
from ..inputs import cache_clearer_bytes, copies
from ..layers import Layer
from ..work import Job, Work
from . import Absent, Program


def start(job: Job) -> Torch:
    """Load eager PyTorch."""
    return Torch(job)


class Torch:
    """PyTorch: networks as functions of an NCHW tensor in channels_last, on a separate stream.

    Tensors are float32 for the dtype "tf32"; for "float32", tf32 is disabled.
    """

    how = "eager"
    compiled = False

    def __init__(self, job: Job) -> None:
        try:
            import torch as any_torch
        except ImportError as error:
            raise Absent(
                f'PyTorch is not installed: pip install ".[bench]" in a clone of vgg_cuda ({error})'
            ) from None
        torch: Any = any_torch
        self.torch = torch
        self.job = job
        self.device = job.device if job.on_gpu else "cpu"
        if job.on_gpu and not torch.cuda.is_available():
            raise Absent(f"PyTorch {torch.__version__} finds no GPU")
        self.dtype = getattr(torch, "float32" if job.dtype == "tf32" else job.dtype)
        torch.set_num_threads(get_num_threads())
        torch.backends.cudnn.benchmark = True
        torch.backends.cudnn.allow_tf32 = job.dtype == "tf32"
        torch.backends.cuda.matmul.allow_tf32 = job.dtype == "tf32"
        self.versions = {"torch": str(torch.__version__)}
        if job.on_gpu and torch.backends.cudnn.is_available():
            self.versions["cudnn"] = str(torch.backends.cudnn.version())
        self.clock: Clock = HostClock()
        self.stream: Any = None
        if job.on_gpu:
            self.stream = torch.cuda.Stream(self.device)
            torch.cuda.set_stream(self.stream)
            self.clock = torch_clock(self.stream)

    def prepare(self, work: Work) -> Program:
        """Build a program for ``work``."""
        torch = self.torch
        if self.job.on_gpu:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        run = self.function(work)
        kernel = work.kind == "kernel"
        x = work.few().input(self.job.seed)
        nbytes = x[0].nbytes * work.batch
        count = 1 if kernel and self.job.on_gpu else copies(nbytes, self.job.on_gpu)
        first = self.repeated(x, work.batch)
        xs = [first, *(first.clone() for _ in range(count - 1))]
        call: Callable[[int], Any] = lambda i: run(xs[i])  # noqa: E731
        program = Program(call, lambda: self.host(run(xs[0])), self.clock, self.how, count)
        if not self.job.on_gpu:
            return program
        if not kernel:
            whole = work.input(self.job.seed)
            program.upload = lambda: (self.placed(whole), torch.cuda.synchronize())
        else:
            scratch = torch.empty(cache_clearer_bytes(), dtype=torch.uint8, device=self.device)
            program.before = lambda _: scratch.zero_()
        if self.job.graph:
            self.capture(program, run, xs, kernel)
        return program

    def capture(self, program: Program, run: Any, xs: list[Any], kernel: bool) -> None:
        """Capture a CUDA graph that reads one tensor; copies of x are copied there, untimed."""
        torch, target = self.torch, xs[0].clone() if len(xs) > 1 else xs[0]
        for _ in range(3):  # choose algorithms and allocate memory
            run(target)
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=self.stream):
            y = run(target)

        def result() -> Any:
            target.copy_(xs[0])
            graph.replay()
            return self.host(y)

        program.call, program.result = (lambda _: graph.replay()), result
        program.how, program.keep = f"{self.how}, CUDA graph", run
        if not kernel:
            program.before = lambda i: target.copy_(xs[i])

    def function(self, work: Work) -> Callable[[Any], Any]:
        """Return a function of x [N,C,H,W] or [N,C] that holds its weights."""
        ready = self.laid_out(work)
        return self.inference(lambda x: self.forward(ready, x))

    def laid_out(self, work: Work) -> list[tuple[Layer, Any, Any]]:
        """Return every layer with its weights and bias on the device."""
        torch, tensors = self.torch, work.tensors(self.job)
        ready: list[tuple[Layer, Any, Any]] = []
        for layer in work.layers:
            if not layer.multiplies:
                ready.append((layer, None, None))
                continue
            w = torch.from_numpy(np.ascontiguousarray(tensors[f"{layer.name}.weight"]))
            bias = torch.from_numpy(np.ascontiguousarray(tensors[f"{layer.name}.bias"]))
            w, bias = (each.to(self.device).to(self.dtype) for each in (w, bias))
            ready.append((layer, w.permute(0, 3, 1, 2) if layer.kind == "conv" else w, bias))
        return ready

    def inference(self, run: Callable[[Any], Any]) -> Callable[[Any], Any]:
        """Wrap ``run`` so that it records no gradients."""
        wrapped: Callable[[Any], Any] = self.torch.inference_mode()(run)
        return wrapped

    def forward(self, ready: list[tuple[Layer, Any, Any]], x: Any) -> Any:
        """Apply the layers to x in order."""
        functional = self.torch.nn.functional
        for layer, w, bias in ready:
            grid = (layer.grid, layer.grid)
            match layer.kind:
                case "conv":
                    x = functional.conv2d(x, w, bias, padding=1)
                case "dense":
                    x = x.permute(0, 2, 3, 1).flatten(1) if x.ndim == 4 else x
                    x = functional.linear(x, w, bias)
                case "avg" if x.shape[2:] != grid:
                    x = functional.adaptive_avg_pool2d(x, grid)
                case "max" if x.shape[2:] != grid:
                    x = functional.adaptive_max_pool2d(x, grid)
            x = functional.relu(x, inplace=not self.compiled) if layer.relu else x
            x = functional.max_pool2d(x, 2) if layer.pool or layer.kind == "pool" else x
        return x

    def repeated(self, x: Any, n: int) -> Any:
        """Return ``n`` images on the device that repeat the images of x."""
        few = self.torch.from_numpy(x).to(self.device).to(self.dtype)
        tensor = few[self.torch.arange(n, device=self.device) % len(few)]
        return tensor.permute(0, 3, 1, 2) if tensor.ndim == 4 else tensor

    def placed(self, x: Any) -> Any:
        """Return x on the device in the job's dtype, as NCHW in channels_last."""
        tensor = self.torch.from_numpy(x).to(self.device).to(self.dtype)
        return tensor.permute(0, 3, 1, 2) if tensor.ndim == 4 else tensor

    def host(self, y: Any) -> Any:
        """Return y as a float32 NumPy array in NHWC."""
        y = y.permute(0, 2, 3, 1) if y.ndim == 4 else y
        return y.float().cpu().numpy()

    def peak_bytes(self) -> int | None:
        """Return the peak memory of PyTorch's allocator on a GPU."""
        return int(self.torch.cuda.max_memory_reserved()) if self.job.on_gpu else None
