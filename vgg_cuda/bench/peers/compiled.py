"""PyTorch through ``torch.compile`` with max-autotune, which has CUDA graphs of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..work import Job, Work
from . import Program
from .pytorch import Torch


def start(job: Job) -> Compiled:
    """PyTorch, compiling."""
    return Compiled(job)


class Compiled(Torch):
    """As eager PyTorch, its function compiled anew for every piece of work."""

    how = "torch.compile, max-autotune"
    compiled = True

    def function(self, work: Work) -> Callable[[Any], Any]:
        """As eager PyTorch's, compiled at its first call."""
        torch = self.torch
        torch._dynamo.reset()
        mode = "max-autotune" if self.job.graph else "max-autotune-no-cudagraphs"
        compiled = torch.compile(super().function(work), mode=mode, dynamic=False, fullgraph=True)

        def run(x: Any) -> Any:
            torch.compiler.cudagraph_mark_step_begin()  # an earlier result may be overwritten
            return compiled(x)

        return run

    def inference(self, run: Callable[[Any], Any]) -> Callable[[Any], Any]:
        """The compiler takes no ``inference_mode``."""
        no_grad: Callable[[Any], Any] = self.torch.no_grad()(run)
        return no_grad

    def capture(self, program: Program, run: Any, xs: list[Any], kernel: bool) -> None:
        """Nothing to do: the compiler captures at its first calls."""
        for _ in range(3):
            run(xs[0])
        self.torch.cuda.synchronize()
        program.how = f"{self.how}, CUDA graph"
