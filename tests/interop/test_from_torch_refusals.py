"""Modules that ``vgg_cuda.from_torch`` refuses, and forwards with side effects."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from support.torch_modules import Reader, X, kernels, original
from support.torch_modules import torchvision_vgg as vgg
from torch import nn

from vgg_cuda.backends import DeviceError
from vgg_cuda.interop.torch_module import accelerated, from_torch, runtime

# ---- Forwards with side effects ----

pytestmark = pytest.mark.filterwarnings("ignore::vgg_cuda.FallbackWarning")


def test_forward_that_keeps_a_tensor() -> None:
    def how(m: Any, x: torch.Tensor) -> torch.Tensor:
        y = m.features(x)
        if m.keep:
            m.kept = y
        return y.mean((2, 3))

    module = Reader(how)
    module.keep = False
    network: Any = from_torch(module)
    kernels(network, module)
    network.keep = module.keep = True
    with torch.no_grad():
        original(network, module, X, "keeps a tensor beyond the call")
        assert torch.equal(network.kept, module.features(X))


def _doubles_after(m: Any, x: torch.Tensor) -> torch.Tensor:
    y = m.features(x)
    if m.late:
        with torch.no_grad():
            m.features[1][0].weight.mul_(2)
    return y


def test_forward_that_writes_weights_after_use() -> None:
    module = Reader(_doubles_after)
    module.late = True
    text = r"^Reader: forward: a tensor of features\.1\.0 is written after it was used$"
    with pytest.raises(ValueError, match=text):
        from_torch(module)
    module.late = False
    network: Any = from_torch(module)
    network.late = module.late = True
    with torch.no_grad():
        network(X)
    assert network.why == "forward: a tensor of a layer is written after it was used"


def test_forward_that_writes_weights_before_use() -> None:
    def how(m: Any, x: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            m.features[1][0].weight.mul_(m.factor)
        return m.features(x)

    module = Reader(how)
    module.factor = 1
    network: Any = from_torch(module)
    network.factor = 2
    kernels(network, module)


@pytest.mark.parametrize(
    ("how", "why"),
    [
        (lambda m, x: {m.features(x)}, "expected tensors computed from the input"),
        (lambda m, x: m.features(x) + 1, "cannot run torch.Tensor.add"),
        (lambda m, x: torch.cat([m.features(x), m.features(x)]), "branches"),
        (lambda m, x: (y := m.features[0](x), m.features[1](y), m.features[1](y))[1:], "branches"),
        (lambda m, x: m.features(x if x.sum() > 0 else -x), r"cannot run torch.Tensor\.sum"),
        (lambda m, x: m.features(x if x.is_contiguous() else -x), r"Tensor\.is_contiguous"),
        (lambda m, x: m.features(torch.ones_like(x)), "cannot run torch.ones_like"),
        (lambda m, x: m.features(torch.zeros(1, 3, 8, 8)), "expected tensors computed from"),
        (lambda m, x: m.features(x)[:, :4], "cannot run torch.Tensor.__getitem__"),
        (
            lambda m, x: nn.functional.interpolate(m.features(x), (4, 4)),
            "cannot run torch.nn.functional.interpolate",
        ),
        (lambda m, x: m.features(x).data, r"cannot run torch.Tensor\.data"),
        (lambda m, x: m.features(x).numpy(), r"cannot run torch.Tensor\.numpy"),
        (lambda m, x: torch.ops.aten.relu(m.features(x)), "cannot run aten"),
        (lambda m, x: _swallowed(lambda: m.features(x) + 1, m.features[0], x), "Tensor.add"),
        (lambda m, x: m.features(x).undefined, "has no attribute 'undefined'"),
        (lambda m, x: m.features(x).view(x.size(0), 16, -1), "dimensions but the batch flattened"),
        (lambda m, x: m.features(x).flatten(2), "all dimensions but the batch flattened"),
        (lambda m, x: m.features(x).flatten(2), "got what Reader.forward does$"),
        (lambda m, x: m.features(x).mean(1), "expected a mean over height and width, got dim=1"),
        (lambda m, x: m.features(x).amax((1, 2)), r"a maximum over height .* got dim=\(1, 2\)"),
        (lambda m, x: m.features(x).softmax(1), "expected a softmax over the classes"),
    ],
)
def test_forwards_that_are_refused(how: Any, why: str) -> None:
    with pytest.raises(ValueError, match=rf"^Reader: .*{why}"):
        from_torch(Reader(how))


def test_forward_with_another_name_for_self() -> None:
    class Named(Reader):
        def forward(module, x: torch.Tensor) -> Any:  # noqa: N805
            kernel = module.features[0][0].weight * 2
            return nn.functional.conv2d(x, kernel, padding=1)

    text = "^Named: forward: expected plain parameters, got a Tensor in what Named.forward does$"
    with pytest.raises(ValueError, match=text):
        from_torch(Named(lambda m, x: x))


def _swallowed(bad: Callable[[], Any], good: Callable[[Any], Any], x: Any) -> Any:
    try:
        return bad()
    except Exception:
        return good(x)


def test_unsupported_operation_in_a_later_call() -> None:
    """Check it even if the forward catches the failure and goes on."""

    def how(m: Any, x: torch.Tensor) -> torch.Tensor:
        if m.late:
            return _swallowed(lambda: m.features(x) + 1, m.features, x)
        return m.features(x)

    module = Reader(how)
    module.late = False
    network: Any = from_torch(module)
    network.late = module.late = True
    with torch.no_grad():
        original(network, module, X, "cannot run torch.Tensor.add")


# ---- Refusals ----


def layers(*given: nn.Module) -> Callable[[], nn.Module]:
    return lambda: nn.Sequential(*given)


CONV = nn.Conv2d(3, 8, 3, padding=1)
REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "5x5": (layers(nn.Conv2d(3, 8, 5, padding=2)), r"0: expected a 3x3 convolution.*got Conv2d\(3"),
    "stride": (
        layers(nn.Conv2d(3, 8, 3, 2, padding=1)),
        "0: expected a 3x3 convolution of stride 1",
    ),
    "padding": (layers(nn.Conv2d(3, 8, 3)), "0: expected a 3x3 convolution of stride 1, padding 1"),
    "dilation": (layers(nn.Conv2d(3, 8, 3, padding=2, dilation=2)), "0: expected a 3x3 conv"),
    "groups": (layers(nn.Conv2d(4, 8, 3, padding=1, groups=2)), "0: expected a 3x3 conv"),
    "reflect": (
        layers(nn.Conv2d(3, 8, 3, padding=1, padding_mode="reflect")),
        "0: cannot run .*pad",
    ),
    "1x1": (layers(CONV, nn.Conv2d(8, 8, 1)), "1: expected a 3x3 convolution"),
    "channels": (layers(CONV, nn.Conv2d(9, 8, 3, padding=1)), "1: expected 9 channels, got 8"),
    "3x3 pool": (layers(CONV, nn.MaxPool2d(3, 2)), r"1: expected a 2x2 max-pool.*got MaxPool2d"),
    "pool stride": (layers(CONV, nn.MaxPool2d(2, 1)), "1: expected a 2x2 max-pool of stride 2"),
    "average": (layers(CONV, nn.AvgPool2d(2)), "1: cannot run .*avg_pool2d"),
    "grid": (layers(CONV, nn.AdaptiveAvgPool2d((3, 4))), "1: expected an average pool to a square"),
    "maximum": (layers(CONV, nn.AdaptiveMaxPool2d(2)), "1: expected a maximum of all pixels, got"),
    "maximum of an average": (
        layers(CONV, nn.AdaptiveAvgPool2d(3), nn.AdaptiveMaxPool2d(1)),
        "2: expected one pool to a fixed size, got AdaptiveMaxPool2d",
    ),
    "leaky": (layers(CONV, nn.LeakyReLU()), "1: cannot run .*leaky_relu"),
    "group norm": (layers(CONV, nn.GroupNorm(2, 8)), "1: cannot run .*group_norm"),
    "norm before a ReLU": (
        layers(CONV, nn.ReLU(), nn.BatchNorm2d(8), nn.ReLU()),
        "2: .*got a batch norm after 1 .* and before 3 ",
    ),
    "norm without statistics": (
        layers(CONV, nn.BatchNorm2d(8, track_running_stats=False)),
        "1: expected batch norms that use running statistics",
    ),
    "relu first": (layers(nn.ReLU(), CONV), "0: expected a 3x3 convolution first"),
    "relu of an average": (
        layers(CONV, nn.AdaptiveAvgPool2d(7), nn.ReLU()),
        "2: expected a ReLU before the average",
    ),
    "no flatten": (layers(CONV, nn.Linear(8, 4)), "1: expected Flatten or a global pool before"),
    "flatten of all": (layers(CONV, nn.Flatten(0)), "1: expected all dimensions but the batch"),
    "features": (
        layers(CONV, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(33, 4)),
        "3: expected 33 features, got 32",
    ),
    "no multiple": (layers(CONV, nn.Flatten(), nn.Linear(33, 4)), "2: expected 33 features"),
    "after softmax": (
        layers(CONV, nn.Flatten(), nn.Linear(32, 4), nn.Softmax(1), nn.Linear(4, 4)),
        "4: expected nothing after a softmax",
    ),
    "softmax of channels": (layers(CONV, nn.Softmax(1)), "1: expected a softmax over the classes"),
    "upsampling": (layers(CONV, nn.Upsample(2)), "1: cannot run .*interpolate"),
    "in a module": (
        layers(CONV, nn.Sequential(nn.ReLU(), nn.Sequential(nn.GELU()))),
        r"1\.1\.0: cannot run .*gelu",
    ),
    "nothing": (layers(nn.Flatten(), nn.Linear(3, 4)), "expected 3x3 convolutions, found none"),
    "identity": (lambda: Reader(lambda m, x: x), "expected 3x3 convolutions, found none"),
    "compiled": (
        lambda: torch.compile(vgg(), backend="eager"),
        r"by torch\.compile; pass the original module",
    ),
    "3d": (layers(nn.Conv3d(3, 8, 3, padding=1)), "expected 3x3 convolutions, found none"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refusals(case: str) -> None:
    make, why = REFUSED[case]
    with pytest.raises(ValueError, match=why) as error:
        from_torch(make())
    assert "\n" not in str(error.value)


def test_bad_arguments() -> None:
    with pytest.raises(TypeError, match=r"from_torch: expected a torch\.nn\.Module, got dict"):
        from_torch({})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"dtype: expected float32 or tf32 .* got 'int8'"):
        from_torch(vgg(), dtype=torch.int8)
    module = vgg()
    module.forward = lambda x: x  # type: ignore[method-assign]
    with pytest.raises(ValueError, match="its forward was replaced on the object"):
        from_torch(module)
    module = vgg()
    module.calls = 3  # type: ignore[assignment]
    with pytest.raises(ValueError, match="has an attribute 'calls'"):
        from_torch(module)


def test_device_without_kernels() -> None:
    """Check that the original forward runs, and the reason."""
    module = vgg().to("meta")
    network: Any = from_torch(module)
    with torch.no_grad():
        assert network(torch.empty(1, 3, 32, 32, device="meta")).shape == (1, 10)
    assert "no kernels compute in torch.float32 on meta" in network.why


def test_gpu_that_cannot_be_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """Check that from_torch raises, and that a module moved later runs the original forward."""
    module = vgg()
    network: Any = from_torch(module)
    text = "device 'cuda:0' is not available: it needs CuPy"

    def missing(*_: Any, **__: Any) -> None:
        raise DeviceError(text)

    monkeypatch.setattr(runtime, "VGG", missing)
    with pytest.raises(DeviceError, match="needs CuPy"):
        from_torch(module)
    network.refresh()
    with torch.no_grad():
        for _ in range(2):
            original(network, module, X, text)


def test_side_effects_happen_once_per_call() -> None:
    """Check that a call runs the forward's Python code once, on kernels or not."""

    def how(m: Any, x: torch.Tensor) -> torch.Tensor:
        m.count += 1
        return m.features(x)

    module = Reader(how)
    module.count = 0
    network: Any = from_torch(module)
    network.count = 0
    with torch.no_grad():
        network(X)
        assert (network.why, network.count) == (None, 1)
    network(X)
    assert (network.calls, network.count) == ((1, 1), 2)


def test_without_pytorch(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.delitem(sys.modules, accelerated.__name__)
    with pytest.raises(ImportError, match=r'needs PyTorch: pip install "\.\[torch\]" in a clone'):
        from_torch(None)  # type: ignore[arg-type]
