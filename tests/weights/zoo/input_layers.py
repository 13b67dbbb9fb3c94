"""Models that normalize their images themselves, as Keras models, ONNX graphs and modules."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from support.keras_models import L, chained, functional, keras
from support.onnx_graphs import Net, run
from torch import nn
from weights.zoo.case import Case, Example
from weights.zoo.keras_models import blocks, head, saved

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
APPLICATIONS = keras.applications
STEP = "an offset cannot be folded because of the padding: it runs as a step before"


def keras_model(start: Callable[[Any], Any], *, refused: bool = False) -> Any:
    rest = chained([*blocks(), *head()])
    return saved(lambda: functional(lambda x: rest(start(x))), refused=refused)


def column(values: Any) -> np.ndarray:
    return np.asarray(values, np.float32).reshape(1, -1, 1, 1)


def graph(build: Callable[[Net], Any], dims: tuple[int | str, ...] = ("N", 3, 8, 8)) -> Any:
    """Return a maker of an ONNX graph that ``build`` begins."""

    def of(folder: Path) -> Example:
        net = Net(dims=dims)
        build(net)
        model = net.features().add("Flatten", axis=1).head().model()
        onnx.save(model, folder / "m.onnx")
        x = np.random.default_rng(3).uniform(0, 255, (2, *dims[1:])).astype(np.float32)
        nhwc = x if dims[-1] == 3 else np.ascontiguousarray(x.transpose(0, 2, 3, 1))
        return Example(folder / "m.onnx", nhwc, run(model, x))

    return of


class Start(nn.Module):
    """A small network after ``start(x)``."""

    def __init__(self, start: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        torch.manual_seed(5)
        self.start = start
        self.net = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Flatten(), nn.Linear(8 * 36, 5),
        )  # fmt: skip

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.net(self.start(x))  # type: ignore[no-any-return]


def module(start: Callable[[torch.Tensor], torch.Tensor]) -> Any:
    def of(_: Path) -> Example:
        made = Start(start).eval()
        x = np.random.default_rng(6).uniform(0, 1, (2, 12, 12, 3)).astype(np.float32)
        with torch.no_grad():
            y = made(torch.from_numpy(x).permute(0, 3, 1, 2))
        return Example(made, x, y.numpy())

    return of


def normalize(x: torch.Tensor) -> torch.Tensor:
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (MEAN, STD))
    return (x - mean) / std


def case(framework: Any, name: str, what: str, make: Any, why: str = "", **options: Any) -> Case:
    return Case(framework, name, what, options.pop("verdict", "accepted"), make, why, **options)


def refusal(framework: Any, name: str, what: str, make: Any, why: str, says: str) -> Case:
    return Case(framework, name, what, "refused", make, why, says)


KERAS = [
    case("Keras", "rescaling", "Rescaling without an offset", keras_model(L.Rescaling(1 / 255)),
         "into the first convolution", verdict="folded"),
    case("Keras", "rescaling-offset", "Rescaling with an offset",
         keras_model(L.Rescaling(1 / 127.5, -1)), STEP),
    case("Keras", "normalization", "Normalization",
         keras_model(L.Normalization(mean=(99, 9, 9), variance=(1e4, 4e4, 9e4))), STEP),
    case("Keras", "preprocess-caffe", "`vgg16.preprocess_input(x)` inside of the model",
         keras_model(APPLICATIONS.vgg16.preprocess_input), STEP),
    case("Keras", "preprocess-tf", "`mobilenet_v2.preprocess_input(x)` inside of the model",
         keras_model(APPLICATIONS.mobilenet_v2.preprocess_input), STEP),
    case("Keras", "preprocess-torch", "`densenet.preprocess_input(x)` inside of the model",
         keras_model(APPLICATIONS.densenet.preprocess_input), STEP),
    case("Keras", "arithmetic", "arithmetic and `flip` on `keras.Input`",
         keras_model(lambda x: keras.ops.flip(1.0 - 2.0 * (x / 255), -1) + 0.5), STEP),
    refusal("Keras", "lambda", "a Lambda layer", keras_model(
        L.Lambda(lambda x: x / 255, name="scale"), refused=True),
        "a file does not hold its function: write Rescaling or Normalization",
        r"scale: expected layers whose .*in its place use Rescaling\(scale, offset\)"),
]  # fmt: skip
ONNX = [
    case("ONNX", "input-scale", "Div of the images", graph(lambda n: n.add("Div", np.float32(255))),
         "into the first convolution", verdict="folded"),
    case("ONNX", "input-sub-div", "Sub and Div of the images, per channel",
         graph(lambda n: n.add("Sub", column(MEAN) * 255).add("Div", column(STD) * 255)), STEP),
    case("ONNX", "input-mul-add", "Mul and Add of the images, as tf2onnx writes Rescaling",
         graph(lambda n: n.add("Mul", np.float32(1 / 127.5)).add("Add", np.float32(-1))), STEP),
    case("ONNX", "input-transpose", "images with channels last, and a Transpose",
         graph(lambda n: n.add("Sub", np.float32(MEAN) * 255).add("Transpose", perm=[0, 3, 1, 2]),
               dims=("N", 8, 8, 3)), STEP),
    refusal("ONNX", "input-image", "a mean image of all pixels", graph(
        lambda n: n.add("Sub", np.ones((1, 3, 8, 8), np.float32))),
        "only maps per channel are input layers", "a number per channel"),
]  # fmt: skip
MODULES = [
    case("from_torch", "normalize", "a module that normalizes by mean and deviation first",
         module(normalize), STEP),
    case("from_torch", "two-x-minus-one", "a module that computes `2 * x - 1` first",
         module(lambda x: 2 * x - 1), STEP),
    case("from_torch", "channels-reversed", "a module that reverses the channels first",
         module(lambda x: x[:, [2, 1, 0]] * 255), "into the first convolution", verdict="folded"),
    refusal("from_torch", "interpolate", "a module that resizes images first",
            module(lambda x: nn.functional.interpolate(x, (12, 12))),
            "no kernel computes it: resize the images before", "cannot run .*interpolate"),
]  # fmt: skip
