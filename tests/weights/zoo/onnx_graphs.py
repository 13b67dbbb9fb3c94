"""ONNX files as programs write them: optimised, quantised, with unfolded or spelled-out layers."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import TensorProto, helper
from support.onnx_graphs import Net, exported, run
from torch import nn
from weights.zoo.case import Case, Example
from weights.zoo.state_dicts import randomized

LEVELS = onnxruntime.GraphOptimizationLevel


class Headed(nn.Module):
    """Small convolutions and a head; all pools are max-pools of 2 x 2."""

    def __init__(self, *head: nn.Module, norm: bool = False) -> None:
        super().__init__()
        torch.manual_seed(4)
        norms = [nn.BatchNorm2d(4)] if norm else []
        self.features = nn.Sequential(
            nn.Conv2d(3, 4, 3, padding=1), *norms, nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(4, 6, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        )  # fmt: skip
        self.classifier = nn.Sequential(*head)
        randomized(self)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.classifier(torch.flatten(self.features(x), 1))


def example(path: Path, model: Any = None, size: tuple[int, int] = (8, 8)) -> Example:
    """Return an example whose result is onnxruntime's for ``model``, by default the file's."""
    x = np.random.default_rng(3).standard_normal((1, *size, 3), np.float32)
    nchw = np.ascontiguousarray(x.transpose(0, 3, 1, 2))
    return Example(path, x, run(path if model is None else model, nchw))


def net(build: Callable[[Net], Any]) -> Callable[[Path], Example]:
    """Return a maker of a graph that is built node by node."""

    def of(folder: Path) -> Example:
        made = Net()
        build(made)
        onnx.save(made.model(), folder / "m.onnx")
        return example(folder / "m.onnx")

    return of


def export(
    make: Callable[[], nn.Module], *, size: tuple[int, int] = (8, 8),
    other: tuple[int, int] | None = None, **options: Any,
) -> Callable[[Path], Example]:  # fmt: skip
    """Return a maker of an export of PyTorch; ``other`` is a size for the dynamic axes H and W."""

    def of(folder: Path) -> Example:
        module, path = make(), folder / "m.onnx"
        axes = (2, 3) if other else ()
        zeros = torch.zeros(1, 3, *size)
        exported(module, path, zeros, dynamo=False, open_axes=axes, **options)
        found = example(path, size=other or size)
        with torch.no_grad():
            expected = module(torch.from_numpy(found.x).permute(0, 3, 1, 2)).numpy()
        return found._replace(expected=expected)

    return of


def small() -> nn.Module:
    return Headed(nn.Linear(24, 5), nn.ReLU(), nn.Linear(5, 3), norm=True)


def optimised(level: Any) -> Callable[[Path], Example]:
    """Return a maker of a file that onnxruntime has optimised."""

    def of(folder: Path) -> Example:
        exported(small(), folder / "m.onnx", torch.zeros(1, 3, 8, 8), dynamo=False, open_axes=())
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level, options.log_severity_level = level, 3
        options.optimized_model_filepath = str(folder / "optimised.onnx")
        providers = ["CPUExecutionProvider"]
        onnxruntime.InferenceSession(str(folder / "m.onnx"), options, providers=providers)
        return example(folder / "m.onnx")._replace(source=folder / "optimised.onnx")

    return of


def nchwc(folder: Path) -> Example:
    """Make a node of onnxruntime's layout for one processor: not all processors have one."""
    made = Net().conv(3, 8).maxpool().add("Flatten").gemm(128, 3).model()
    made.graph.node[0].domain = "com.microsoft.nchwc"
    onnx.save(made, folder / "m.onnx")
    return Example(folder / "m.onnx", np.zeros(0), np.zeros(0))


def quantised(folder: Path, *, static: bool) -> Example:
    """Quantise by onnxruntime: QDQ nodes around every layer, or integers made on the fly."""
    from onnxruntime import quantization  # takes a second

    exported(small(), folder / "m.onnx", torch.zeros(1, 3, 8, 8), dynamo=False, open_axes=())

    class Reader(quantization.CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.left = [{"x": np.ones((1, 3, 8, 8), np.float32)}]

        def get_next(self) -> Any:
            return self.left.pop() if self.left else None

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if static:
            quantization.quantize_static(folder / "m.onnx", folder / "q.onnx", Reader())
        else:
            quantization.quantize_dynamic(folder / "m.onnx", folder / "q.onnx")
    return Example(folder / "q.onnx", np.zeros(0), np.zeros(0))


def filled(made: Net) -> None:
    """Append layers with weights of equal numbers, as in the examples that onnx ships with."""

    def constant(value: float, *shape: int) -> str:
        tensor = helper.make_tensor("value", TensorProto.FLOAT, [1], [value])
        return made.make("ConstantOfShape", [np.array(shape)], value=tensor)

    made.add("Conv", constant(0.02, 4, 3, 3, 3), made.random(4), pads=[1, 1, 1, 1])
    made.add("Relu").maxpool().add("Flatten")
    made.add("Gemm", constant(0.01, 3, 64), constant(0.5, 3), transB=1)


def shipped(_: Path) -> Example:
    """Return the VGG-19 that onnx has as an example: its weights are equal numbers."""
    data = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
    return example(data / "light_vgg19.onnx", size=(224, 224))


def scale_and_shift(made: Net, channels: int, rank: int) -> Net:
    """Append a batch norm as tf2onnx writes it: Mul and Add."""
    shape = (1, channels, 1, 1) if rank == 4 else (channels,)
    scale = np.abs(made.random(channels)).reshape(shape) + 0.5
    return made.add("Mul", scale.astype(np.float32)).add(
        "Add", made.random(channels).reshape(shape)
    )


def case(name: str, what: str, make: Any, why: str = "", **options: Any) -> Case:
    return Case("ONNX", name, what, options.pop("verdict", "accepted"), make, why, **options)


def refusal(name: str, what: str, make: Any, why: str, says: str) -> Case:
    return Case("ONNX", name, what, "refused", make, why, says)


def late_norm(*, norm_last: bool = False) -> nn.Module:
    """Return a network with a batch norm after a ReLU, which may be the last layer."""
    head: list[nn.Module] = [nn.Linear(24, 5), nn.ReLU(), nn.BatchNorm1d(5)]
    return Headed(*head) if norm_last else Headed(*head, nn.Linear(5, 3))


def early_norms() -> nn.Module:
    """Return a network whose batch norms follow ReLUs; some scales are negative."""
    torch.manual_seed(5)
    made = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.BatchNorm2d(4), nn.MaxPool2d(2),
        nn.Conv2d(4, 6, 3, padding=1), nn.ReLU(), nn.BatchNorm2d(6), nn.Conv2d(6, 6, 3, padding=1),
        nn.ReLU(), nn.BatchNorm2d(6), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(24, 3),
    )  # fmt: skip
    randomized(made)
    with torch.no_grad():
        made[2].weight.mul_(torch.tensor([1.0, -1.0, 1.0, -1.0]))
    return made


SHIPPED = Case("ONNX", "light-vgg19", "onnx's own example of VGG-19", "accepted", shipped)
PRESERVED = {"training": torch.onnx.TrainingMode.PRESERVE, "do_constant_folding": False}
NAMED = r"classifier\.2: expected a convolution .*got a batch norm after classifier\.1 \(a ReLU\)"
CASES = [
    case("constant-of-shape", "weights made by ConstantOfShape", net(filled)),
    case("fused", "a graph optimised by onnxruntime: FusedConv, FusedGemm",
         optimised(LEVELS.ORT_ENABLE_EXTENDED)),
    case("basic", "a graph optimised by onnxruntime, basic level",
         optimised(LEVELS.ORT_ENABLE_BASIC)),
    case("batch-norm", "batch norms that the exporter has not folded", export(small, **PRESERVED),
         verdict="folded"),
    case("batch-norm-late", "a batch norm between a ReLU and a dense layer", export(late_norm),
         "into the dense layer", verdict="folded"),
    case("mul-add-conv", "Mul and Add after a convolution, as tf2onnx writes batch norms",
         net(lambda n: scale_and_shift(n.conv(3, 4, relu=False), 4, 4).add("Relu").maxpool()
             .add("Flatten").gemm(64, 3)), verdict="folded"),
    case("mul-add-relu", "Mul and Add between a ReLU and a dense layer",
         net(lambda n: scale_and_shift(
             scale_and_shift(n.conv(3, 4), 4, 4).maxpool().add("Flatten").gemm(64, 5).add("Relu"),
             5, 2).gemm(5, 3)), "into the dense layer behind it", verdict="folded"),
    case("mul-add-before-conv", "Mul and Add between a ReLU or a pool and a convolution",
         net(lambda n: scale_and_shift(
             scale_and_shift(n.conv(3, 4), 4, 4).conv(4, 4).maxpool(), 4, 4)
             .conv(4, 4).maxpool().add("Flatten").gemm(16, 3)),
         "separate layers: zeros of the padding have no shift"),
    case("batch-norm-after-relu", "batch norms after ReLUs, unfolded",
         export(early_norms, **PRESERVED), "separate layers before convolutions"),
    case("sub-div", "Sub and Div between a ReLU and a dense layer",
         net(lambda n: n.conv(3, 4).maxpool().add("Flatten").gemm(64, 5).add("Relu")
             .add("Sub", n.random(5)).add("Div", np.float32(0.3)).gemm(5, 3)), verdict="folded"),
    case("sigmoid", "a sigmoid", export(lambda: Headed(nn.Linear(24, 3), nn.Sigmoid()))),
    case("log-softmax", "a log-softmax",
         export(lambda: Headed(nn.Linear(24, 3), nn.LogSoftmax(dim=1)))),
    case("identity", "an Identity in place of a layer",
         export(lambda: Headed(nn.Linear(24, 5), nn.Identity(), nn.ReLU(), nn.Linear(5, 3)))),
    case("other-size", "an open image size and a Flatten",
         export(lambda: Headed(nn.Linear(24, 3)), other=(11, 10)),
         "every size that pools to the same grid"),
    refusal("qdq", "a model quantised by onnxruntime (QDQ)",
            lambda folder: quantised(folder, static=True), "int8 is not supported yet",
            r"x_QuantizeLinear .*quantised to integers: int8 is not supported yet"),
    refusal("dynamic-quantisation", "a model quantised by onnxruntime, on the fly",
            lambda folder: quantised(folder, static=False), "int8 is not supported yet",
            "quantised to integers: int8 is not supported yet"),
    refusal("nchwc", "a graph optimised by onnxruntime for one processor", nchwc,
            "save it with ORT_ENABLE_EXTENDED", "one processor: load the original, or save with"),
    refusal("batch-norm-last", "a batch norm after the last ReLU",
            export(lambda: late_norm(norm_last=True)), "no layer can take it over", NAMED),
]  # fmt: skip
