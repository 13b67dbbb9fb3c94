"""State dicts with missing, unexpected or misshapen tensors: each error names the tensor."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.torch_vgg import TimmVGG, TorchVGG
from support.weight_files import refused, state, zipped

from vgg_cuda.weights import WeightsError, load_weights


def changed(kind: type[torch.nn.Module] = TorchVGG, bn: bool = False, **tensors: Any) -> Any:
    """Return the state dict with tensors replaced; None removes a tensor."""
    values = {**state(kind, bn), **{n.replace("__", "."): t for n, t in tensors.items()}}
    return {name: tensor for name, tensor in values.items() if tensor is not None}


Z = torch.zeros
WRONG = [
    (changed(features__3__weight=None), "missing: features.3.weight"),
    (changed(features__3__bias=None), "missing: features.3.bias"),
    (changed(features__0__weight=None), "missing: features.0.weight"),
    (changed(features__3__weight=None, features__3__bias=None), "missing: features.2.weight or"),
    (changed(classifier__6__weight=None), "missing: classifier.6.weight"),
    (changed(classifier__3__bias=None), "missing: classifier.3.bias"),
    (changed(features__40__weight=Z(24, 24, 3, 3)), "found a gap"),
    (changed(features__1__weight=Z(8)), "batch norm after every convolution"),
    (changed(classifier__6__scale=Z(2)), "unexpected: classifier.6.scale"),
    (changed(classifier__9__bias=Z(2)), "missing: classifier.9.weight"),
    (changed(**{"features.0.running_mean": Z(8)}), "unexpected: features.0.running_mean"),
    (changed(**{"features.00.weight": Z(8)}), "unexpected: features.00.weight"),
    (changed(**{f"features.{'9' * 5000}.weight": Z(8)}), "unexpected: features.999"),
    (changed(**{f"fc6\n\x1b[31m{'x' * 10**6}.weight": Z(8)}), "unexpected: fc6"),
    (changed(features__3__weight=Z(8, 9, 3, 3)), "features.3.weight: expected [8, 8, 3, 3]"),
    (changed(features__3__weight=Z(8, 8, 5, 5)), "got [8, 8, 5, 5]"),
    (changed(features__0__bias=Z(9)), "features.0.bias: expected [8], got [9]"),
    (changed(features__0__weight=Z(())), "features.[0]"),
    (changed(features__0__weight=Z(0, 3, 3, 3)), "at least one element"),
    (changed(classifier__0__weight=Z(8, 24 * 50)), "square grid"),
    (changed(classifier__3__weight=Z(8)), "classifier.3.weight: expected [K, C], got [8]"),
    (changed(classifier__3__weight=Z(8, 9)), "classifier.3.weight: expected [8, 8], got [8, 9]"),
    (changed(bn=True, features__1__running_var=None), "missing: features.1.running_var"),
    (changed(bn=True, features__1__weight=None), "missing: features.1.weight"),
    (changed(bn=True, features__1__bias=Z(9)), "features.1.bias: expected [8], got [9]"),
    (changed(bn=True, features__1__running_var=-torch.ones(8)), "running_var: expected variances"),
    (
        changed(bn=True, features__1__weight=torch.full((8,), 3e38), features__1__running_var=Z(8)),
        "features.0.weight: expected fi",
    ),
    (changed(TimmVGG, **{"head.fc.weight": None}), "missing: head.fc.weight"),
    (changed(TimmVGG, **{"pre_logits.fc1.weight": None}), "missing: pre_logits.fc1.weight"),
    (changed(TimmVGG, **{"pre_logits.fc2.bias": None}), "missing: pre_logits.fc2.bias"),
    (changed(TimmVGG, **{"head.fc.extra": Z(2)}), "unexpected: head.fc.extra"),
    (changed(TimmVGG, **{"pre_logits.fc1.weight": Z(8, 24, 7, 6)}), "[K, 24, 7, 7]"),
    (changed(TimmVGG, **{"pre_logits.fc1.weight": Z(8, 96, 7, 7)}), "[K, 24, 7, 7]"),
    (changed(TimmVGG, **{"pre_logits.fc1.weight": Z(8)}), "[K, 24, 7, 7]"),
    (changed(TimmVGG, **{"pre_logits.fc2.weight": Z(8, 8, 3, 3)}), "[K, 8, 1, 1]"),
    (changed(TimmVGG, **{"pre_logits.fc2.weight": Z(8, 8)}), "[K, 8, 1, 1]"),
    (changed(TimmVGG, **{"head.fc.weight": Z(2, 9)}), "head.fc.weight: expected [2, 8]"),
]


@pytest.mark.parametrize(("values", "text"), WRONG, ids=range(len(WRONG)))
def test_wrong_tensors_are_named(tmp_path: Path, values: dict[str, Any], text: str) -> None:
    assert text in refused(tmp_path, zipped(values))


def test_all_wrong_tensors_are_named() -> None:
    values = {n: t.numpy() for n, t in state(TorchVGG, True).items() if not n.endswith("mean")}
    with pytest.raises(WeightsError, match=r"missing: features\.1\.running_mean, features\.5\.r"):
        load_weights({**values, "features.0.running_mean": np.zeros(8)})
