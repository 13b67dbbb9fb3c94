"""PyTorch modules in memory, for ``from_torch``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from support.torch_modules import block, sequential
from support.torch_vgg import TimmVGG
from torch import nn
from weights.zoo.case import Case, Example
from weights.zoo.state_dicts import case as state_case
from weights.zoo.state_dicts import example, replaced, saved, small, with_head
from weights.zoo.state_dicts import refusal as state_refusal

from vgg_cuda.weights import DroppedWarning


def made(make: Callable[[], nn.Module], size: int = 32, channels: int = 3) -> object:
    def of(_: Path) -> Example:
        module = make().eval()
        return example(module, module, size, channels)

    return of


def case(name: str, what: str, make: Callable[[], nn.Module], size: int = 8, **how: str) -> Case:
    verdict, why = how.get("verdict", "accepted"), how.get("why", "")
    return Case("from_torch", name, what, verdict, made(make, size), why)  # type: ignore[arg-type]


def refusal(name: str, what: str, layers: Callable[[], nn.Module], why: str, says: str) -> Case:
    return Case("from_torch", name, what, "refused", made(layers, 8), why, says)


def headed(*head: nn.Module) -> Callable[[], nn.Module]:
    return lambda: sequential(block(3, 8), nn.Flatten(), nn.Linear(8 * 16, 5), *head)


def shared() -> nn.Module:
    """Return a network that uses one convolution in every block but the first."""
    conv = nn.Conv2d(32, 32, 3, padding=1)
    layers = [nn.Conv2d(3, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
    for _ in range(4):
        layers += [conv, nn.ReLU(), nn.MaxPool2d(2)]
    return sequential(*layers, nn.Flatten(), nn.Linear(32, 3))


CLASSES = {"ant": 0, "bee": 1, "cat": 2}
STATES = [
    state_case("shared", "layers that share one tensor", saved(shared)),
    state_case("class-to-idx", "a checkpoint with torchvision's `class_to_idx`",
               saved(small, lambda state: {"state_dict": state, "class_to_idx": CLASSES}),
               "its names become the labels"),
    state_case("class-to-idx-other", "`class_to_idx` of another number of classes",
               saved(small, lambda state: {"state_dict": state, "class_to_idx": {"ant": 0}}),
               "the names are not used; a warning says so",
               warns=((DroppedWarning, "class_to_idx of 1 classes"),)),
    state_case("identity", "an Identity in place of a dropout", saved(with_head(replaced(
        nn.Linear(24 * 49, 6), nn.ReLU(), nn.Identity(), nn.Linear(6, 3))))),
    state_case("other-size", "a dense layer behind Flatten, and images of another size",
               saved(lambda: nn.Sequential(*small().features, nn.Flatten(), nn.Linear(24, 3))
                     .eval(), size=45), "every size that pools to the same grid"),
    state_refusal("resnet", "another network", saved(lambda: nn.Sequential(
        nn.Conv2d(3, 8, 7), nn.ReLU(), nn.Conv2d(8, 8, 3)), size=16),
        "its convolutions are not of 3 x 3", "3, 3"),
]  # fmt: skip
CASES = [
    case("features", "a slice such as `vgg.features[:8]`", lambda: small().features[:8]),
    case("whole", "the whole network of torchvision", small, 32),
    case("timm", "the network of timm, whose dense layers are convolutions",
         lambda: TimmVGG("4 M 4 M 4 M 4 M 4 M", hidden=8, num_classes=3), 224),
    case("sigmoid", "a sigmoid at the end", headed(nn.Sigmoid())),
    case("log-softmax", "a log-softmax at the end", headed(nn.LogSoftmax(dim=1))),
    case("softmax", "a softmax at the end", headed(nn.Softmax(dim=1))),
    case("no-activation", "no activation at the end", headed()),
    case("identity", "Identity and dropout anywhere",
         headed(nn.Identity(), nn.ReLU(), nn.Dropout(), nn.Linear(5, 4))),
    case("batch-norm", "a batch norm behind a convolution or dense layer", lambda: sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
        nn.Linear(128, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, 3)), verdict="folded"),
    case("batch-norm-late", "a batch norm between a ReLU and a dense layer",
         headed(nn.ReLU(), nn.BatchNorm1d(5), nn.Linear(5, 4)), verdict="folded",
         why="into the dense layer behind it"),
    refusal("gelu", "an activation other than ReLU", headed(nn.GELU(), nn.Linear(5, 4)),
            "no kernel computes it", "cannot run .*(GELU|gelu)"),
    refusal("stride", "a convolution of stride 2",
            lambda: sequential(nn.Conv2d(3, 8, 3, stride=2, padding=1)),
            "no kernel computes it", "stride"),
    refusal("average-pool", "average pools in place of max-pools",
            lambda: sequential(nn.Conv2d(3, 8, 3, padding=1), nn.AvgPool2d(2)),
            "no kernel computes it", "(avg_pool|AvgPool)"),
]  # fmt: skip
