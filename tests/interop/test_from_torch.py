"""Results of ``vgg_cuda.from_torch`` compared with the original module's."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from support.tolerance import assert_close
from support.torch_modules import (
    FORWARDS,
    SEQUENTIALS,
    SMALL,
    Reader,
    WholeTimm,
    narrow,
    timm_vgg,
    torchvision_vgg,
)
from torch import nn

from vgg_cuda import VGG
from vgg_cuda.interop.torch_module import from_torch, runtime

pytestmark = pytest.mark.filterwarnings("ignore::vgg_cuda.FallbackWarning")


@pytest.fixture(autouse=True)
def _no_grad() -> Iterator[None]:
    with torch.no_grad():
        yield


@pytest.fixture(scope="module", autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def check(network: Any, module: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """Call ``network`` on kernels and compare its result with ``module``'s."""
    before, was = network.calls, x.clone()
    with torch.inference_mode():
        y = network(x)
    assert network.why is None
    assert network.calls == (before.kernels + 1, before.original)
    expected = module(x.clone())
    assert y.shape == expected.shape
    assert y.dtype == expected.dtype
    assert y.device == expected.device
    assert_close(y, expected)
    assert torch.equal(x, was)
    return y


# ---- Networks ----


@pytest.mark.parametrize("batch_norm", [False, True], ids=["plain", "bn"])
@pytest.mark.parametrize("name", ["vgg11", "vgg13", "vgg16", "vgg19"])
def test_torchvision(name: str, batch_norm: bool) -> None:
    module = torchvision_vgg(narrow(name), batch_norm=batch_norm, seed=1)
    network: Any = from_torch(module)
    assert network.calls == (0, 0)
    for shape in ((2, 3, 64, 64), (1, 3, 224, 224), (3, 3, 40, 97))[: 3 if name == "vgg16" else 1]:
        check(network, module, torch.randn(shape))


@pytest.mark.parametrize("num_classes", [10, 0], ids=["logits", "features"])
@pytest.mark.parametrize("batch_norm", [False, True], ids=["plain", "bn"])
def test_timm(batch_norm: bool, num_classes: int) -> None:
    module = timm_vgg(batch_norm=batch_norm, num_classes=num_classes)
    network = from_torch(module)
    for shape in ((2, 3, 224, 224), (2, 3, 64, 96), (1, 3, 32, 32)):
        check(network, module, torch.randn(shape))


def test_timm_with_its_own_head() -> None:
    module = WholeTimm()
    network: Any = from_torch(module)
    for size in (224, 64, 224, 160):
        check(network, module, torch.randn(2, 3, size, size))
    x = torch.randn(1, 3, 256, 256)  # timm averages over several positions of its dense layers
    assert torch.equal(network(x), module(x))
    assert "on 8 x 8 pixels" in network.why
    assert isinstance(network, WholeTimm)
    features = network.forward_features(x)  # a method of the original class
    assert torch.equal(features, module.forward_features(x))
    headless = WholeTimm(num_classes=0)
    check(from_torch(headless), headless, torch.randn(2, 3, 64, 64))


@pytest.mark.parametrize("batch_norm", [False, True], ids=["plain", "bn"])
def test_slices_of_features(batch_norm: bool) -> None:
    features = torchvision_vgg(batch_norm=batch_norm).features
    x = torch.randn(2, 3, 37, 50)
    for end in range(1, len(features) + 1):
        part = features[:end]
        assert part.training  # a new container's flag; its layers are in eval()
        check(from_torch(part), part, x)


@pytest.mark.parametrize("case", SEQUENTIALS)
def test_sequentials(case: str) -> None:
    make, shape = SEQUENTIALS[case]
    module = make()
    check(from_torch(module), module, torch.randn(shape))


def test_dense_layers_decide_the_image_size() -> None:
    module = SEQUENTIALS["flatten, not square"][0]()
    network = from_torch(module)
    for shape in ((2, 3, 12, 8), (2, 3, 8, 12), (1, 3, 4, 24), (2, 3, 13, 9)):
        check(network, module, torch.randn(shape))
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):  # PyTorch's own
        network(torch.randn(2, 3, 32, 32))


@pytest.mark.parametrize("how", FORWARDS)
def test_forwards(how: str) -> None:
    module = Reader(FORWARDS[how])
    network = from_torch(module)
    check(network, module, torch.randn(1, 3, 32, 32))


def test_branches_are_taken_in_every_call() -> None:
    module = Reader(FORWARDS["a branch"])
    network = from_torch(module)
    for size, rank in ((32, 2), (48, 4), (32, 2), (40, 4)):
        assert check(network, module, torch.randn(2, 3, size, size)).ndim == rank


def test_forward_that_reads_an_attribute() -> None:
    module = Reader(lambda m, x: m.features(x) * m.scale if m.scale != 1 else m.features(x))
    module.scale = 1
    network: Any = from_torch(module)
    x = torch.randn(2, 3, 16, 16)
    y = check(network, module, x)
    network.scale = 3
    assert_close(network(x), y * 3)
    assert "torch.Tensor.mul" in network.why
    network.scale = 1
    check(network, module, x)


def test_subclass_with_another_forward() -> None:
    class Doubled(type(torchvision_vgg())):  # type: ignore[misc]
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(self.features[1](x))

    with pytest.raises(ValueError, match=r"Doubled: features\.1: expected a 3x3 convolution first"):
        from_torch(Doubled(SMALL, hidden=8))


# ---- Tensors ----


def test_memory_formats() -> None:
    for module in (torchvision_vgg(), torchvision_vgg().features, torchvision_vgg().features[:2]):
        network = from_torch(module)
        x = torch.randn(2, 3, 64, 48)
        given = [
            x,
            x.to(memory_format=torch.channels_last),
            x.transpose(2, 3).contiguous().transpose(2, 3),
            x[:1].expand(3, -1, -1, -1),
            x[:, :1].expand(-1, 3, -1, -1),
            torch.randn(4, 6, 64, 96)[::2, ::2, :, ::2],
            x.flip(3),
        ]
        for one in given:
            y = check(network, module, one)
            if y.ndim == 4:
                assert y.is_contiguous(memory_format=torch.channels_last)


def test_images_are_not_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[int, str]] = []
    taps = VGG._taps

    def spy(self: VGG, x: Any, wanted: Any, layout: str, **options: Any) -> Any:
        seen.append((x.data_ptr(), layout))
        return taps(self, x, wanted, layout, **options)

    monkeypatch.setattr(VGG, "_taps", spy)
    network = from_torch(torchvision_vgg().features[:5])
    x = torch.randn(2, 3, 16, 16)
    last = x.to(memory_format=torch.channels_last)
    network(x), network(last)
    assert seen == [(x.data_ptr(), "NCHW"), (last.data_ptr(), "NHWC")]


def test_batches() -> None:
    module = torchvision_vgg()
    network = from_torch(module)
    for n in (1, 17, 3, 8, 9):
        check(network, module, torch.randn(n, 3, 32, 32))


def test_any_range_of_values_is_accepted(recwarn: pytest.WarningsRecorder) -> None:
    module = torchvision_vgg()
    network = from_torch(module)
    for scale in (255, 1, 1e-3):
        check(network, module, torch.rand(1, 3, 32, 32) * scale)
    assert not recwarn.list


def test_arguments_by_name() -> None:
    module = torchvision_vgg()
    network: Any = from_torch(module)
    x = torch.randn(1, 3, 32, 32)
    assert_close(network(x=x), module(x))
    assert network.calls == (1, 0)
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'x'"):
        network()
    with pytest.raises(TypeError, match="takes 2 positional arguments but 3"):
        network(x, x)
    with pytest.raises(TypeError, match="unexpected keyword argument 'y'"):
        network(y=x)


def test_parameters_as_inputs() -> None:
    module = torchvision_vgg().requires_grad_(False)
    check(from_torch(module), module, nn.Parameter(torch.randn(1, 3, 32, 32)))


def test_other_precisions() -> None:
    module = torchvision_vgg(batch_norm=True).bfloat16()
    x = torch.randn(2, 3, 32, 32, dtype=torch.bfloat16)
    network: Any = from_torch(module)
    assert torch.equal(network(x), module(x))
    assert network.why == "no kernels compute in bfloat16 on the CPU, only in float32"
    network = from_torch(module, dtype=torch.float32)  # in float32, from and to bfloat16
    y = network(x)
    assert network.calls == (1, 0)
    assert y.dtype == torch.bfloat16
    assert_close(y.float(), module.float()(x.float()), 4e-3)  # half a unit of bfloat16
    network = from_torch(torchvision_vgg().double())
    network(torch.randn(1, 3, 32, 32, dtype=torch.float64))
    assert network.why == "no kernels compute in torch.float64 on cpu"


@pytest.mark.emulator
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_gpu_kernels_in_half_precision(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run a GPU's path on host memory: half precision, spatial results and vectors."""

    def on_emulator(weights: Any, *, device: str, dtype: str, arch: str | None) -> VGG:
        assert (device, arch) == ("cpu", None)
        return VGG(weights, device="emulator", dtype=dtype)

    monkeypatch.setattr(runtime, "VGG", on_emulator)
    monkeypatch.setattr(
        runtime.Runtime, "precision", lambda self, like: runtime.PRECISIONS[like.dtype]
    )
    module = torchvision_vgg("16 M 16 M", hidden=16, batch_norm=True)
    bound = {torch.float16: 3e-3, torch.bfloat16: 3e-2}[dtype]
    for part in (module, module.features, module.features[:3]):
        exact = [part(x := torch.randn(2, 3, 8, 12).to(dtype).float())]
        half = from_torch(type(module).half(part) if dtype == torch.float16 else part.bfloat16())
        for given in (x.to(dtype), x.to(dtype, memory_format=torch.channels_last)):
            y = half(given)
            assert half.why is None
            assert y.dtype == dtype
            assert_close(y.float(), exact[0], bound)
        part.float()


def test_sequentials_of_sequentials() -> None:
    """Check that slices of an accelerated module are accelerated."""
    features: Any = from_torch(torchvision_vgg().features)
    part = features[:5].eval()
    x = torch.randn(1, 3, 16, 16)
    assert_close(part(x), nn.Sequential(*features)[:5](x))
    assert part.calls == (1, 0)
    assert len(features) == 19
    again = from_torch(features)
    assert type(again) is type(features)
    assert again.calls == (0, 0)


def test_accelerated_part_of_a_module() -> None:
    module = torchvision_vgg()
    outer = nn.Sequential(from_torch(module.features), nn.ReLU()).eval()
    x = torch.randn(1, 3, 32, 32)
    assert_close(outer(x), module.features(x))
    assert outer[0].calls == (1, 0)


@pytest.mark.slow
def test_example_runs() -> None:
    script = Path(__file__).parents[2] / "examples" / "torch_module.py"
    command = [sys.executable, str(script), "--size", "64", "--runs", "1"]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert printed.count("Calls(kernels=3, original=0)") == 2
    assert "with gradients: Calls(kernels=0, original=1): a gradient is needed" in printed
