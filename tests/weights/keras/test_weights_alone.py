"""Keras' files without a config: assumptions, and checks against the file's layers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.keras_models import (
    L,
    case,
    chained,
    conv,
    features,
    functional,
    gap,
    predict,
    randomize,
    sequential,
    write,
)
from support.tolerance import assert_close

from vgg_cuda import VGG
from vgg_cuda.weights import AssumedWarning, WeightsError, load_weights

RELUS = "convolutions of stride 1 and padding 'same', a ReLU after each"
LOGITS = "no softmax at the end: a call returns logits"
HIDDEN = "a ReLU after every dense layer but the last"
SAID: dict[tuple[str, str], list[str]] = {
    ("note", "weights.h5"): [
        RELUS, "2x2 max-pools as in VGG-16", "square images", HIDDEN, LOGITS,
    ],
    ("batch-norm", "weights.h5"): [
        "convolutions of stride 1 and padding 'same', a batch norm of epsilon 0.001 and a ReLU "
        "after each",
        "2x2 max-pools as in VGG-16", LOGITS,
    ],
    ("max-head", "weights.h5"): [RELUS, "2x2 max-pools as in VGG-16"],
    ("nested", "weights.h5"): [RELUS, "a 2x2 max-pool after every block", HIDDEN, LOGITS],
    ("vgg19-named", "old.h5"): [RELUS, LOGITS],
    ("no-head", "old.h5"): [RELUS],
    ("nested", "old.h5"): [
        RELUS, "a 2x2 max-pool after every block", "Flatten reads an image of one pixel", HIDDEN,
        LOGITS,
    ],
}  # fmt: skip


@pytest.mark.parametrize(("name", "form"), SAID, ids=[f"{n}-{f}" for n, f in SAID])
def test_assumptions_are_reported_once(tmp_path: Path, name: str, form: str) -> None:
    write(case(name).model, tmp_path / "w", form)
    with pytest.warns(AssumedWarning) as caught:
        VGG.load(tmp_path / "w", device="cpu")
    assert [one.filename for one in caught] == [__file__]
    said = str(caught[0].message).split("Assumed: ")[1].split(". A complete model")[0]
    assert said.split("; ") == SAID[name, form]


def test_whole_models_assume_nothing(tmp_path: Path) -> None:
    for form in ("keras", "h5"):
        write(case("batch-norm").model, tmp_path / form, form)
        load_weights(tmp_path / form)


def eight(*head: Any, relu: bool = True, **arguments: Any) -> list[Any]:
    """Return as many convolutions as in VGG-11, with its pools."""
    layers: list[Any] = []
    for convs in (1, 1, 2, 2, 2):
        for _ in range(convs):
            layers += [conv(activation=None), L.ReLU()] if relu else [conv(**arguments)]
        layers.append(L.MaxPooling2D())
    return [*layers, *head]


OTHER_POOLS: dict[str, Callable[[], list[Any]]] = {
    "elsewhere": lambda: [conv(), conv(), L.MaxPooling2D(), *(conv() for _ in range(6)), *gap()],
    "none": lambda: [*(conv() for _ in range(8)), *gap()],
    "nine-convolutions": lambda: [*(conv() for _ in range(9)), L.MaxPooling2D(), *gap()],
}


@pytest.mark.filterwarnings("ignore::vgg_cuda.weights.AssumedWarning")
@pytest.mark.parametrize("make", OTHER_POOLS.values(), ids=OTHER_POOLS)
def test_older_files_have_pools_in_their_order(tmp_path: Path, make: Any) -> None:
    model = sequential(*make())
    randomize(model)
    x = np.random.default_rng(0).standard_normal((1, 32, 32, 3), dtype=np.float32)
    write(model, tmp_path / "w", "old.h5")
    assert_close(VGG.load(tmp_path / "w", device="cpu")(x), predict(model, x))


def two_models() -> Any:
    """Return a Functional model followed by a Sequential one."""
    first = functional(chained(eight(relu=False)[:4]))
    return sequential(first, sequential(*eight(relu=False)[4:], shape=(8, 8, 8)), *gap())


def two_heads() -> Any:
    head = functional(chained([L.Dense(8, activation="relu")]), shape=(8,))
    return sequential(*eight(relu=False), L.GlobalMaxPooling2D(), head, L.Dense(8))


def first_outside() -> Any:
    rest = sequential(*eight(relu=False)[2:], shape=(16, 16, 8))
    return sequential(*eight(relu=False)[:2], rest, *gap())


def pooled_base() -> Any:
    base = functional(chained([*features(named=True), L.GlobalAveragePooling2D()]))
    return sequential(base, L.Dense(5))


def frozen_inside() -> Any:
    """Return a model with a frozen layer, whose weights the file lists last."""
    base = functional(chained(eight(relu=False)))
    base.layers[-4].trainable = base.layers[-3].trainable = False
    return sequential(base, *gap())


def flat(*head: Any, shape: tuple[int, int, int] = (32, 64, 3)) -> Any:
    return sequential(*eight(*head, L.Flatten(), L.Dense(5), relu=False), shape=shape)


BIG = (64, 64, 3)
WHOLE = r"save the complete model \(\.keras\)"
REFUSED: dict[str, tuple[str, Callable[[], Any], str]] = {
    "two-models": ("weights.h5", two_models, f"layers in one model.*their order; {WHOLE}"),
    "two-heads": ("weights.h5", two_heads, f"layers in one model.*dense.*{WHOLE}"),
    "first-outside": ("weights.h5", first_outside, f"layers in one model.*{WHOLE}"),
    "no-pools": ("weights.h5", lambda: sequential(*OTHER_POOLS["none"]()), "5 pools.*found 0"),
    "some-relus": (
        "weights.h5",
        lambda: sequential(*eight(L.ReLU(), L.ReLU(), *gap())),
        "after each of 8 convolutions and 0 of 1 dense layers, got 10 activation layers",
    ),
    "softmaxes": (
        "weights.h5", lambda: sequential(*eight(*gap(), L.Softmax(), L.Softmax())), "one softmax"
    ),
    "oblong": ("weights.h5", flat, f"square images, got 16: 2 pixels of 8 channels; {WHOLE}"),
    "oblong-older": ("old.h5", flat, f"square images, got 16: 2 pixels of 8 channels; {WHOLE}"),
    "renamed-pool": (
        "old.h5",
        lambda: sequential(*eight(L.GlobalAveragePooling2D(name="gap"), L.Dense(5), relu=False)),
        f"gap: expected the layers of a VGG.*{WHOLE}",
    ),
    "renamed-max-pool": (
        "old.h5",
        lambda: sequential(*eight(L.MaxPooling2D(name="p"), *gap()), shape=BIG),
        f"p: .*{WHOLE}",
    ),
    "rescaling-first": (
        "old.h5", lambda: sequential(L.Rescaling(0.5), *eight(*gap())), f"rescaling.*: .*{WHOLE}"
    ),
    "pool-first": (
        "old.h5",
        lambda: sequential(L.MaxPooling2D(), *eight(), shape=BIG),
        "expected a convolution before",
    ),
    "frozen-inside": ("old.h5", frozen_inside, f"conv2d.* got it after .*frozen.*{WHOLE}"),
    "pooled-inside": ("old.h5", pooled_base, f"fit both.*{WHOLE}"),
    "pooled-inside-twice": ("old.h5", lambda: case("nested-twice").model, f"fit both.*{WHOLE}"),
}  # fmt: skip


@pytest.mark.parametrize(("form", "make", "text"), REFUSED.values(), ids=REFUSED)
def test_ambiguous_files_are_refused(tmp_path: Path, form: str, make: Any, text: str) -> None:
    write(make(), tmp_path / "w", form)
    with pytest.raises(WeightsError, match=text):
        load_weights(tmp_path / "w")


def test_input_of_any_name(tmp_path: Path) -> None:
    model = functional(chained(eight(*gap(), relu=False)))
    model.layers[0].name = "photo"
    write(model, tmp_path / "w", "old.h5")
    with pytest.warns(AssumedWarning, match="Assumed: photo is its input; convolutions"):
        load_weights(tmp_path / "w")


@pytest.mark.parametrize("name", ["w.keras", "w.h5", "w.pth", "w.safetensors", "w.onnx"])
def test_empty_file(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    with pytest.raises(WeightsError, match=r"the file is empty$"):
        load_weights(tmp_path / name)
