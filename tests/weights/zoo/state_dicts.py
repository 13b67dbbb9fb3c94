"""State dicts as training programs write them: prefixes, heads, checkpoints, parts of networks."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from support.torch_vgg import TimmVGG, TorchVGG
from support.weight_files import SMALL
from torch import nn
from weights.zoo.case import Case, Example

from vgg_cuda.weights import AssumedWarning, DroppedWarning

Change = Callable[[dict[str, Any]], dict[str, Any]]
ASSUMED_RELU = (AssumedWarning, "a ReLU between")


def small(**options: Any) -> TorchVGG:
    return TorchVGG(SMALL, hidden=8, num_classes=3, **options)


def randomized(module: nn.Module) -> nn.Module:
    """Set batch norms that are not neutral."""
    torch.manual_seed(0)
    for part in module.modules():
        if isinstance(part, (nn.BatchNorm1d, nn.BatchNorm2d)):
            for tensor in (part.weight, part.running_var):
                nn.init.uniform_(tensor, 0.5, 1.5)
            for tensor in (part.bias, part.running_mean):
                nn.init.uniform_(tensor, -0.3, 0.3)
    return module.eval()


def example(module: nn.Module, source: Any, size: int = 32, channels: int = 3) -> Example:
    """Return an example whose result is that of ``module``: NHWC, if it is an image."""
    x = np.random.default_rng(size).standard_normal((2, size, size, channels), np.float32)
    with torch.no_grad():
        y = module(torch.from_numpy(x).permute(0, 3, 1, 2).contiguous())
    return Example(source, x, (y.permute(0, 2, 3, 1) if y.ndim == 4 else y).numpy())


def saved(make: Callable[[], nn.Module], change: Change = dict, size: int = 32) -> Any:
    """Return a maker of a case: the module's state dict, changed and saved by torch.save."""

    def of(folder: Path) -> Example:
        module = make()
        torch.save(change(module.state_dict()), folder / "w.pth")
        return example(module, folder / "w.pth", size)

    return of


def under(prefix: str, **more: torch.Tensor) -> Change:
    return lambda state: {f"{prefix}{name}": t for name, t in state.items()} | more


class Wrapped(nn.Module):
    """A network with its own head behind the features of a VGG."""

    def __init__(self, head: nn.Module, attribute: str = "classifier", *, bn: bool = False) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.backbone = small(batch_norm=bn).features
        self.attribute = attribute
        setattr(self, attribute, head)
        randomized(self)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return getattr(self, self.attribute)(torch.flatten(self.backbone(x), 1))


def with_head(change: Callable[[nn.Sequential], None]) -> Callable[[], nn.Module]:
    def make() -> nn.Module:
        module = small()
        torch.manual_seed(2)
        change(module.classifier)
        return randomized(module)

    return make


def nested(head: nn.Sequential) -> None:
    head[6] = nn.Sequential(nn.Linear(8, 6), nn.ReLU(), nn.Dropout(0.4), nn.Linear(6, 5))


def named(head: nn.Sequential) -> None:
    """Replace the head by that of a well-known course."""
    layers = OrderedDict(fc1=nn.Linear(24 * 49, 9), relu=nn.ReLU(), drop=nn.Dropout(0.2))
    layers |= {"fc2": nn.Linear(9, 4)}
    head.__class__, head.__dict__ = nn.Sequential, nn.Sequential(layers).__dict__


def replaced(*layers: nn.Module) -> Callable[[nn.Sequential], None]:
    def change(head: nn.Sequential) -> None:
        head.__dict__ = nn.Sequential(*layers).__dict__

    return change


class Cut(nn.Module):
    """torchvision's VGG with the published sizes of its head, without the last ``count`` layers."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.features = TorchVGG("1 M 1 M 1 M 1 M 1 M", hidden=1, num_classes=1).features
        torch.manual_seed(3)
        head = [nn.Linear(49, 4096), nn.ReLU(), nn.Dropout(), nn.Linear(4096, 4096), nn.ReLU(),
                nn.Dropout(), nn.Linear(4096, 3)]  # fmt: skip
        self.classifier = nn.Sequential(*head[: len(head) - count])
        self.eval()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = nn.functional.adaptive_avg_pool2d(self.features(x), 7)
        return self.classifier(torch.flatten(y, 1))


def gray(folder: Path) -> Example:
    module = small()
    module.features[0] = nn.Conv2d(1, 8, 3, padding=1)
    torch.save(module.state_dict(), folder / "w.pth")
    return example(module.eval(), folder / "w.pth", channels=1)


def cut_features(k: int, *, bn: bool = False) -> Callable[[Path], Example]:
    def of(folder: Path) -> Example:
        module = small(batch_norm=bn).features[:k].eval()
        safetensors.torch.save_file(module.state_dict(), folder / "w.safetensors")
        return example(module, folder / "w.safetensors")

    return of


def timm_checkpoint(folder: Path) -> Example:
    """Make a checkpoint of timm's ``train.py``: weights of the last step, and their average."""
    module = TimmVGG(SMALL, hidden=8, num_classes=3)
    last = {name: torch.zeros_like(t) for name, t in module.state_dict().items()}
    optimizer = {"state": {0: {"momentum_buffer": torch.ones(2)}}, "param_groups": [{"lr": 0.1}]}
    checkpoint = {"epoch": 3, "arch": "vgg16", "state_dict": last, "optimizer": optimizer}
    checkpoint |= {"version": 2, "state_dict_ema": module.state_dict(), "metric": 81.5}
    torch.save(checkpoint, folder / "w.pth.tar")
    return example(module, folder / "w.pth.tar", 224)


def lightning(state: dict[str, Any]) -> dict[str, Any]:
    """Make a checkpoint of PyTorch Lightning, with a weighted loss beside the network."""
    inner = under("model.", **{"criterion.weight": torch.ones(3)})(state)
    return {
        "epoch": 9, "global_step": 100, "pytorch-lightning_version": "2.4.0", "state_dict": inner,
        "loops": {}, "callbacks": {}, "optimizer_states": [{"state": {}}], "lr_schedulers": [],
    }  # fmt: skip


def two_networks(state: dict[str, Any]) -> dict[str, Any]:
    return under("student.")(state) | under("teacher.")(deepcopy(state))


def case(name: str, what: str, make: Any, why: str = "", **options: Any) -> Case:
    return Case("PyTorch", name, what, options.pop("verdict", "accepted"), make, why, **options)


def refusal(name: str, what: str, make: Any, why: str, says: str) -> Case:
    return Case("PyTorch", name, what, "refused", make, why, says)


ENDS = (AssumedWarning, "ends in a ReLU")
CASES = [
    *(
        case(f"prefix-{prefix.strip('.').replace('.', '-')}", f"names that begin with `{prefix}`",
             saved(small, under(prefix)))
        for prefix in ("model.", "net.", "module.", "_orig_mod.", "backbone.", "_orig_mod.module.",
                       "model.net.")
    ),
    case("metric-prefix", "a network called `metric_net`", saved(small, under("metric_net."))),
    case("mean-beside", "constants beside the network", saved(small, under(
        "model.", mean=torch.zeros(1, 3, 1, 1))), "they are not used; a warning names them",
         warns=((DroppedWarning, "not used: mean"),)),
    case("lightning", "a checkpoint of PyTorch Lightning", saved(small, lightning),
         "what belongs to no layer is not used; a warning names it",
         warns=((DroppedWarning, r"not used: criterion\.weight"),)),
    case("timm-checkpoint", "a checkpoint of timm with a moving average", timm_checkpoint,
         "the moving average (state_dict_ema) is read; a warning names the other",
         warns=((DroppedWarning, r"not used: state_dict"),)),
    case("net", "a checkpoint {'net': …, 'acc': …}",
         saved(small, lambda state: {"net": state, "acc": 93.1, "epoch": 4})),
    case("unknown-key", "a checkpoint with one state dict of any name",
         saved(small, lambda state: {"best weights": state, "epoch": 4})),
    case("gray", "one input channel", gray),
    case("nested-head", "a head in place of torchvision's last layer", saved(with_head(nested)),
         "the numbers of its modules say where the ReLUs are"),
    case("named-head", "a head with names: fc1, relu, fc2", saved(with_head(named)),
         "a ReLU between dense layers is assumed; a warning says so", warns=(ASSUMED_RELU,)),
    case("adjacent-dense", "two dense layers without a ReLU between them",
         saved(with_head(replaced(nn.Linear(24 * 49, 6), nn.Linear(6, 3))))),
    case("head-batch-norm", "a batch norm behind a dense layer",
         saved(with_head(replaced(nn.Linear(24 * 49, 6), nn.BatchNorm1d(6), nn.ReLU(),
                                  nn.Dropout(), nn.Linear(6, 3)))), verdict="folded"),
    case("head-batch-norm-late", "a batch norm between a ReLU and a dense layer",
         saved(with_head(replaced(nn.Linear(24 * 49, 6), nn.ReLU(), nn.BatchNorm1d(6),
                                  nn.Linear(6, 3)))), "into the dense layer behind it",
         verdict="folded", warns=(ASSUMED_RELU,)),
    case("head-batch-norm-first", "a batch norm before the first dense layer",
         saved(lambda: Wrapped(nn.Sequential(nn.BatchNorm1d(24), nn.Linear(24, 3)))),
         verdict="folded"),
    case("linear-head", "features and one dense layer, as for CIFAR",
         saved(lambda: Wrapped(nn.Linear(24, 10)))),
    case("other-head", "a head of another name",
         saved(lambda: Wrapped(nn.Sequential(nn.Dropout(), nn.Linear(24, 10)), "fc"))),
    case("batch-norm-features", "batch norms, and a dense layer",
         saved(lambda: Wrapped(nn.Linear(24, 10), "head", bn=True)), verdict="folded"),
    case("sequential", "one nn.Sequential from convolutions to classes",
         saved(lambda: nn.Sequential(*small().features, nn.AdaptiveAvgPool2d(1), nn.Flatten(),
                                     nn.Linear(24, 3)).eval())),
    case("no-last-layer", "`classifier[:-1]` of a published head", saved(lambda: Cut(1)),
         "the ReLU at the end is assumed; a warning says so",
         warns=((AssumedWarning, r"a ReLU after classifier\.3, and no"),)),
    case("timm-no-classes", "a network of timm with `num_classes=0`",
         saved(lambda: TimmVGG(SMALL, hidden=8, num_classes=0), size=224),
         "it ends in the ReLU of pre_logits"),
    case("features", "`features` alone", saved(lambda: small().features),
         "the pool at the end is assumed; a warning says so",
         warns=((AssumedWarning, "ends in a ReLU and a pool after 14"),)),
    case("first-features", "`features[:k]`", cut_features(8),
         "the ReLU at the end is assumed; a warning says so", warns=(ENDS,)),
    case("first-features-bn", "`features[:k]` with batch norms", cut_features(7, bn=True),
         verdict="folded", warns=(ENDS,)),
    refusal("two-networks", "two networks in one file", saved(small, two_networks),
            "which is meant is unknown", r"one VGG, found them in student\.features, teacher\."),
    refusal("two-heads", "two heads", saved(small, lambda state: state | {
        "aux.weight": torch.zeros(3, 24)}), "which is meant is unknown",
        "expected one head.*got aux, classifier"),
    refusal("two-state-dicts", "two state dicts of unknown names",
            saved(small, lambda s: {"generator": s, "critic": deepcopy(s)}),
            "which is meant is unknown", "one state dict, got generator, critic"),
    refusal("layer-beside", "another layer beside features and classifier",
            saved(small, lambda state: state | {"norm.weight": torch.ones(24),
                                                "norm.bias": torch.ones(24)}),
            "its place in the network is unknown", r"unexpected: norm\.weight, norm\.bias"),
    refusal("adapter", "LoRA adapters", saved(small, lambda state: state | {
        "classifier.6.lora_A": torch.ones(1, 8)}), "merge them first",
        r"unexpected: classifier\.6\.lora_A"),
    refusal("few-blocks", "fewer than five pools before a dense layer",
            saved(small, lambda s: {n: t for n, t in s.items() if "features.14" not in n}),
            "a state dict does not say whether a pool is before the dense layer",
            "five blocks of convolutions"),
]  # fmt: skip
