"""Calls in which a module of ``vgg_cuda.from_torch`` must run its original forward."""

from __future__ import annotations

import copy
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import pytest
import torch
from support.tolerance import assert_close
from support.torch_modules import X, kernels, original
from support.torch_modules import torchvision_vgg as vgg
from torch import nn
from torch.autograd import forward_ad

from vgg_cuda.interop import torch_conditions
from vgg_cuda.interop.torch_module import from_torch

# ---- Gradients ----

pytestmark = pytest.mark.filterwarnings("ignore::vgg_cuda.FallbackWarning")


@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
def test_gradients(training: bool) -> None:
    """Compare gradients bit for bit, with the same dropout."""
    module = vgg(batch_norm=True)
    twin = copy.deepcopy(module)
    network: Any = from_torch(module)
    found = []
    for one in (network, twin):
        one.train(training)
        torch.manual_seed(3)
        x = X.clone().requires_grad_()
        one(x).square().sum().backward()
        found.append([x.grad, *(p.grad for p in one.parameters()), *one.buffers()])
    for a, b in zip(*found, strict=True):
        assert torch.equal(a, b)
    assert network.calls == (0, 1)
    kernels(network.eval(), twin.eval())


def test_calls_that_need_a_gradient() -> None:
    module = vgg()
    network: Any = from_torch(module)
    original(
        network, module, X, "parameters of features.0 require grad; call under torch.no_grad()"
    )
    module.requires_grad_(False)
    assert kernels(network, module).grad_fn is None
    network(X)
    assert network.why is None
    x = X.clone().requires_grad_()
    assert original(network, module, x, "the input requires grad").requires_grad
    with torch.no_grad():
        assert not network(x).requires_grad
    assert network.why is None
    module.classifier[6].bias.requires_grad_()
    assert original(network, module, X, "parameters of classifier.6").requires_grad


def test_training() -> None:
    module = vgg(batch_norm=True)
    network: Any = from_torch(module)
    network.train()
    with torch.no_grad():
        y = network(X)
        assert "features.0 is in training mode" in network.why
        assert network.features[1].num_batches_tracked == 1
        assert not torch.allclose(network(X), y)  # dropout
        network.features.eval()
        network(X)
        assert "avgpool is in training mode" in network.why
        network.eval()
        kernels(network, module)  # with the statistics of two batches


def test_module_in_training_mode_is_accepted() -> None:
    module = vgg().train()
    flags = [m.training for m in module.modules()]
    network: Any = from_torch(module)
    assert [m.training for m in module.modules()] == flags
    kernels(network.eval(), module.eval())


# ---- Modes, transforms and hooks ----


def _modes() -> dict[str, tuple[Callable[[], AbstractContextManager[Any]], str]]:
    from torch.overrides import TorchFunctionMode
    from torch.utils.flop_counter import FlopCounterMode

    class Plain(TorchFunctionMode):
        def __torch_function__(self, f: Any, _: Any, args: Any = (), kwargs: Any = None) -> Any:
            return f(*args, **(kwargs or {}))

    return {
        "autocast": (lambda: torch.autocast("cpu", torch.bfloat16), "autocast is on"),
        "dispatch": (lambda: FlopCounterMode(display=False), "a mode that follows operations"),
        "function": (Plain, "a mode that follows operations"),
        "forward_ad": (forward_ad.dual_level, "forward-mode derivatives"),
    }


@pytest.mark.parametrize("mode", _modes())
def test_modes(mode: str) -> None:
    enter, why = _modes()[mode]
    module = vgg()
    network: Any = from_torch(module)
    with torch.no_grad(), enter():
        original(network, module, X, why)
        assert type(from_torch(module)) is type(network)
    kernels(network, module)


def test_captured_cuda_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    assert torch_conditions.why_watched("cuda") == "a CUDA graph is captured"
    assert torch_conditions.why_watched("cpu") is None


def test_default_device_is_accepted() -> None:
    module = vgg()
    with torch.device("cpu"):
        network: Any = from_torch(module)
        kernels(network, module)


def test_flops_are_counted() -> None:
    from torch.utils.flop_counter import FlopCounterMode

    module = vgg()
    network = from_torch(module)
    counts = []
    for one in (module, network):
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            one(X)
        counts.append(counter.get_total_flops())
    assert counts[0] == counts[1] > 0


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_transforms() -> None:
    module = vgg()
    network: Any = from_torch(module)
    kernels(network, module)
    with torch.no_grad():
        batches = X.expand(2, -1, -1, -1, -1)
        y = torch.vmap(network)(batches)
        assert_close(y, torch.vmap(module)(batches))
        assert "BatchedTensor" in network.why or "torch.func" in network.why
        _, slope = torch.func.jvp(network, (X,), (X,))
        assert_close(slope, torch.func.jvp(module, (X,), (X,))[1])
        other = {name: 2 * p for name, p in module.named_parameters()}
        y = torch.func.functional_call(network, other, (X,))
        assert torch.equal(y, torch.func.functional_call(module, other, (X,)))
        assert "expected plain parameters" in network.why
    gradient = torch.func.grad(lambda x: network(x).sum())(X)
    assert torch.equal(gradient, torch.func.grad(lambda x: module(x).sum())(X))
    with forward_ad.dual_level(), torch.no_grad():
        dual = forward_ad.make_dual(X, torch.ones_like(X))
        assert forward_ad.unpack_dual(network(dual)).tangent is not None
    kernels(network, module)


def test_tracers() -> None:
    module = vgg(batch_norm=True)
    network: Any = from_torch(module)
    with torch.no_grad():
        expected = module(X)
        exported = torch.export.export(network, (X,)).module()
        assert_close(exported(X), expected)
        traced = torch.fx.symbolic_trace(network)
        assert torch.equal(traced(X), expected)
        compiled = torch.compile(network, backend="eager", fullgraph=True)
        assert torch.equal(compiled(X), expected)
        fake = torch._subclasses.FakeTensorMode(allow_non_fake_inputs=True)
        with fake:
            assert network(fake.from_tensor(X)).shape == expected.shape
    assert network.calls.kernels == 0
    kernels(network, module)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_jit_trace() -> None:
    module = vgg()
    network: Any = from_torch(module)
    with torch.no_grad():
        traced = torch.jit.trace(network, X)
        assert torch.equal(traced(X), module(X))
    with pytest.raises(ValueError, match=r"torch\.jit; pass the original module"):
        from_torch(traced)


def test_hooks() -> None:
    module = vgg()
    network: Any = from_torch(module)
    seen: list[tuple[int, ...]] = []
    with torch.no_grad():
        for register in (
            module.features[3].register_forward_hook,
            module.features[3].register_forward_pre_hook,
        ):
            handle = register(lambda m, x, *y: seen.append(type(x[0])))
            original(network, module, X, "features.3 has hooks")
            handle.remove()
            assert seen == [torch.Tensor, torch.Tensor]
            seen.clear()
            kernels(network, module)
        handle = nn.modules.module.register_module_forward_hook(lambda *_: None)
        original(network, module, X, "hooks are registered for all modules")
        handle.remove()
        # hooks of the module itself see its input and its result
        for one in (network, module):
            with one.register_forward_hook(lambda m, x, y: y * 2):
                assert_close(network(X), 2 * network.forward(X))
                assert network.why is None
        kernels(network, module)


def test_hooks_registered_before_from_torch() -> None:
    module = vgg()
    calls: list[Any] = []
    handle = module.features[0].register_forward_hook(lambda m, x, y: calls.append(y.sum()))
    network: Any = from_torch(module)
    assert not calls
    with torch.no_grad():
        original(network, module, X, "features.0 has hooks")
    handle.remove()
    kernels(network, module)


# ---- Inputs ----


@pytest.mark.parametrize(
    ("x", "error"),
    [
        (X.double(), "Input type .*double.* and bias type .*float.* should be the same"),
        (X.half(), "should be the same"),
        ((X * 50).to(torch.uint8), "Byte|unsigned char"),
        (torch.randn(2, 4, 32, 32), "to have 3 channels, but got 4"),
        (torch.randn(1, 3, 31, 40), "Output size is too small"),
        (torch.randn(3, 32), "Expected 3D .* or 4D"),
        (torch.randn(1, 3, 32, 32, device="meta"), "meta|device"),
        ([1, 2], r"got \(list, Parameter"),
        (None, r"got \(NoneType, Parameter"),
    ],
    ids=["float64", "float16", "uint8", "channels", "small", "2d", "meta", "list", "none"],
)
def test_inputs_refused_by_pytorch(x: Any, error: str) -> None:
    """Check that PyTorch's own error is raised."""
    network: Any = from_torch(vgg())
    with (
        torch.no_grad(),
        pytest.raises((RuntimeError, TypeError, NotImplementedError), match=error),
    ):
        network(x)
    assert network.calls == (0, 1)


def test_inputs_other_than_batches() -> None:
    module = vgg().features
    network: Any = from_torch(module)
    with torch.no_grad():
        original(network, module, X[:0], "expected a batch")
        original(network, module, X[0], "expected a batch")

        class Image(torch.Tensor):
            pass

        y = network(X.as_subclass(Image))
        assert type(y) is Image
        assert network.why == "expected a plain tensor as input, got Image"
