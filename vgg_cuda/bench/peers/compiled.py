"""PyTorch through ``torch.compile`` with max-autotune, which has CUDA graphs of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..layers import Layer
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

    def laid_out(self, work: Work) -> list[tuple[Layer, Any, Any]]:
        """Weights that stay where they are: a CUDA graph would copy others at every call."""
        ready = super().laid_out(work)
        for _, *given in ready:
            for tensor in given:
                if tensor is not None:
                    self.torch._dynamo.mark_static_address(tensor)
        return ready

    def capture(self, program: Program, run: Any, xs: list[Any], kernel: bool) -> None:
        """By the compiler, at its first calls; x stays where it is, as for a graph of one's own."""
        target = xs[0].clone() if len(xs) > 1 else xs[0]
        self.torch._dynamo.mark_static_address(target)
        for _ in range(3):
            run(target)
        self.torch.cuda.synchronize()

        def result() -> Any:
            target.copy_(xs[0])
            return self.host(run(target))

        program.call, program.result = (lambda _: run(target)), result
        program.how = f"{self.how}, CUDA graph"
        if not kernel:
            program.before = lambda i: target.copy_(xs[i])
