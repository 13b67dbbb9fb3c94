"""PyTorch through ``torch.compile`` with max-autotune, which makes its own CUDA graphs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..layers import Layer
from ..work import Job, Work
from . import Program
from .pytorch import Torch


def start(job: Job) -> Compiled:
    """Load PyTorch for compilation."""
    return Compiled(job)


class Compiled(Torch):
    """PyTorch whose function is compiled for each piece of work."""

    how = "torch.compile, max-autotune"
    compiled = True

    def function(self, work: Work) -> Callable[[Any], Any]:
        """Return eager PyTorch's function, compiled at its first call."""
        torch = self.torch
        torch._dynamo.reset()
        mode = "max-autotune" if self.job.graph else "max-autotune-no-cudagraphs"
        compiled = torch.compile(super().function(work), mode=mode, dynamic=False, fullgraph=True)

        def run(x: Any) -> Any:
            torch.compiler.cudagraph_mark_step_begin()  # an earlier result may be overwritten
            return compiled(x)

        return run

    def inference(self, run: Callable[[Any], Any]) -> Callable[[Any], Any]:
        """Wrap ``run`` in ``no_grad``, because the compiler does not support ``inference_mode``."""
        no_grad: Callable[[Any], Any] = self.torch.no_grad()(run)
        return no_grad

    def laid_out(self, work: Work) -> list[tuple[Layer, Any, Any]]:
        """Mark weights as static; a CUDA graph would copy other weights at every call."""
        ready = super().laid_out(work)
        for _, *given in ready:
            for tensor in given:
                if tensor is not None:
                    self.torch._dynamo.mark_static_address(tensor)
        return ready

    def capture(self, program: Program, run: Any, xs: list[Any], kernel: bool) -> None:
        """Let the compiler capture a CUDA graph that reads x at a fixed address."""
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
