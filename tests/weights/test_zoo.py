"""Models as people have them: each agrees with its framework, or is refused with the reason."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from support.tolerance import assert_close
from weights.zoo import CASES, modules, onnx_graphs, state_dicts
from weights.zoo.case import Case

from vgg_cuda import VGG, from_torch
from vgg_cuda.weights import WeightsError, load_weights, save, save_torchvision


def select(*verdicts: str) -> list[object]:
    return [pytest.param(c, id=c.id) for c in CASES if c.verdict in verdicts]


@pytest.mark.parametrize(
    "case",
    [
        *select("accepted", "folded"),
        pytest.param(onnx_graphs.SHIPPED, id=onnx_graphs.SHIPPED.id, marks=pytest.mark.slow),
    ],
)
def test_model_agrees_with_its_framework(case: Case, tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the framework
        source, x, expected = case.make(tmp_path)
    if case.framework == "from_torch":
        module = from_torch(source)
        with torch.no_grad():
            y = module(torch.from_numpy(x).permute(0, 3, 1, 2))
        assert module.why is None
        y = y.permute(0, 2, 3, 1) if y.ndim == 4 else y
        assert_close(y, expected, what=case.id)
        return
    with warnings.catch_warnings(record=True) as issued:
        warnings.simplefilter("always")
        weights = load_weights(source)
    assert [found.category for found in issued] == [category for category, _ in case.warns]
    for found, (_, text) in zip(issued, case.warns, strict=True):
        assert re.search(text, str(found.message))
        assert found.filename == __file__
    assert_close(VGG(weights, device="cpu")(x), expected, what=case.id)


@pytest.mark.parametrize("case", select("refused"))
def test_model_is_refused_with_the_reason(case: Case, tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        source, *_ = case.make(tmp_path)
    with pytest.raises(WeightsError, match=case.says) as caught:
        (from_torch if case.framework == "from_torch" else load_weights)(source)
    assert "\n" not in str(caught.value)


def test_every_case_has_a_name_of_its_own() -> None:
    names = [case.id for case in CASES]
    assert sorted(set(names)) == sorted(names)
    assert all(case.why for case in CASES if case.verdict == "refused")


@pytest.mark.parametrize("save", [save, save_torchvision])
def test_one_input_channel_is_kept(save: Callable[..., None], tmp_path: Path) -> None:
    source, x, expected = state_dicts.gray(tmp_path)
    save(load_weights(source), tmp_path / "w.safetensors")
    assert_close(VGG.load(tmp_path / "w.safetensors", device="cpu")(x), expected)


def test_class_to_idx_becomes_labels(tmp_path: Path) -> None:
    state = modules.small().state_dict()
    unsorted = {"state_dict": state, "class_to_idx": {"cat": 2, "ant": 0, "bee": 1}}
    torch.save(unsorted, tmp_path / "w.pth")
    for source in (tmp_path / "w.pth", unsorted):
        assert load_weights(source).labels == ("ant", "bee", "cat")
    for broken in ({"cat": 1}, {"cat": "0"}, {0: 0}, {"ant": 0, "bee": 0, "cat": 1}, "cat"):
        assert load_weights({"state_dict": state, "class_to_idx": broken}).labels is None
