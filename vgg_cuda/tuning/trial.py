"""Scratch arrays in which the variants of one operation run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from .. import _C
from ..backends.kernels import KernelBackend
from ..backends.launch_errors import launch_error
from ..backends.operations import Array
from ..text import format_bytes
from . import operands
from .problems import Chain, Problem

Executors = Callable[[], _C.Executor]


class Trial:
    """Arrays for a problem's input, two results, and what ``chains`` need between and beside."""

    def __init__(self, on: KernelBackend, problem: Problem, chains: Sequence[Chain]) -> None:
        self._on = on
        result = chains[0][-1].y
        self.x: Array = on.new_array(problem.x.shape, problem.x.dtype)
        self.y: Array = on.new_array(result.shape, result.dtype)
        self.expected: Array = on.new_array(result.shape, result.dtype)
        self._between = on.new_array((_between_bytes(chains),), "uint8")
        self._workspace = on.new_array((_workspace_bytes(chains),), "uint8")

    def run(self, chain: Chain, y: Array, executors: Executors) -> None:
        """Enqueue the launches of ``chain``, with one executor for each operation.

        Raises ``_C.LaunchRefused`` for the driver's refusals, as they are.
        """
        x = self.x
        for operation in chain:
            last = operation is chain[-1]
            out = y if last else self._on.view(self._between, 0, operation.y)
            plan = operation.plan
            assert plan is not None
            try:
                operation.launch(plan, x, out, self._scratch(plan), executors())
            except _C.LaunchRefused:
                raise
            except _C.CudaError as error:
                raise launch_error(self._on.device, plan, error, self._on.families.runs) from error
            x = out

    def _scratch(self, plan: _C.Plan) -> Array | None:
        return self._workspace[: plan.workspace_bytes] if plan.workspace_bytes else None


@contextmanager
def reserving(
    on: KernelBackend, problem: Problem, chains: Sequence[Chain], extra: int
) -> Iterator[None]:
    """Wrap the allocation of a :class:`Trial` and of ``extra`` bytes; see ``on.reserving``."""
    y = chains[0][-1].y.nbytes
    arrays = problem.x.nbytes + 2 * y + _between_bytes(chains) + _workspace_bytes(chains)
    needed = arrays + operands.nbytes(problem) + extra
    with on.reserving(
        f"tuning {problem.key}", needed, [f"{format_bytes(needed)} for arrays to measure with"]
    ):
        yield


def working_set(problem: Problem, chain: Chain) -> int:
    """Return the bytes that the launches of ``chain`` read or write."""
    weights = sum(int(layer.w.nbytes) for layer in problem.layers)
    tensors = sum(operation.y.nbytes + operation.workspace_bytes for operation in chain)
    return problem.x.nbytes + weights + tensors


def _between_bytes(chains: Sequence[Chain]) -> int:
    return max((operation.y.nbytes for chain in chains for operation in chain[:-1]), default=0)


def _workspace_bytes(chains: Sequence[Chain]) -> int:
    return max(operation.workspace_bytes for chain in chains for operation in chain)
