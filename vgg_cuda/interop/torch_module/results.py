"""Results of a recorded forward, computed by this package's kernels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.utils._pytree import tree_unflatten

from ... import ops
from ...vgg import VGG
from .records import Output, Result, Step
from .taps import leading_pools


def computed(
    network: VGG, steps: Sequence[Step], names: Sequence[str | None], x: Any, result: Result
) -> Any:
    """Return ``result`` for x [N,C,H,W], its tensors in x's dtype.

    ``names`` are the taps of the steps' results; spatial tensors are channels_last views.
    """
    wanted = {output.position for output in result.outputs}
    found = _by_position(network, steps, names, x, wanted - {0})
    made: dict[int, Any] = {}  # by the number of the recorded object
    taken: set[int] = set()

    def value(leaf: Any) -> Any:
        if type(leaf) is not Output:
            return leaf
        if leaf.position == 0:
            return x
        if leaf.number not in made:
            y = found[leaf.position]
            if y.ndim == 4:
                y = y.permute(0, 3, 1, 2)
            y = y.reshape(leaf.shape).to(x.dtype)
            made[leaf.number] = y.clone() if id(found[leaf.position]) in taken else y
            taken.add(id(found[leaf.position]))
        return made[leaf.number]

    return tree_unflatten([value(leaf) for leaf in result.leaves], result.spec)


def _by_position(
    network: VGG, steps: Sequence[Step], names: Sequence[str | None], x: Any, wanted: set[int]
) -> dict[int, Any]:
    """Return the results of the first ``wanted`` numbers of steps, [N,H,W,C] or [N,K]."""
    given = x.detach().float() if network.device == "cpu" else x.detach()
    pools = leading_pools(steps)
    found: dict[int, Any] = {}
    if pools or given.is_contiguous(memory_format=torch.channels_last):
        given, layout = given.permute(0, 2, 3, 1), "NHWC"
    else:
        given, layout = given.contiguous() if given.is_cuda else given, "NCHW"
    for position in range(1, pools + 1):
        given = found[position] = ops.maxpool2x2(given.contiguous(), device=network._backend)
    taps = {position: str(names[position]) for position in wanted if position > pools}
    tensors = network._taps(given, list(taps.values()), layout, check_range=False)
    last = len(steps)
    for position, tap in taps.items():
        y = tensors[tap]
        found[position] = network._activated(y) if position == last else y
    return {position: found[position] for position in wanted}
