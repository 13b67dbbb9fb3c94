"""Where ``vgg_cuda.from_torch``'s module must run its original forward, and weights that change."""

from __future__ import annotations

import copy
import io
import os
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
import torch
from tolerance import assert_close
from torch import nn
from torch.autograd import forward_ad
from torch.nn.utils import parametrizations
from torch_modules import Reader, sequential, torchvision_vgg
from torch_vgg import TorchVGG

from vgg_cuda import WeightsError
from vgg_cuda.interop import torch_accelerated
from vgg_cuda.interop.torch_module import from_torch

X = torch.randn(2, 3, 40, 33, generator=torch.Generator().manual_seed(5))


def vgg(**options: Any) -> TorchVGG:
    return torchvision_vgg(**options)


def original(network: Any, module: nn.Module, x: Any, why: str) -> Any:
    """A call that ran on the original forward, because of ``why``, and gave the same bits."""
    before = network.calls
    y = network(x)
    assert why in network.why
    assert network.calls == (before.kernels, before.original + 1)
    assert torch.equal(y, module(x))
    return y


def kernels(network: Any, module: nn.Module, x: torch.Tensor = X) -> Any:
    before = network.calls
    with torch.inference_mode():
        y, expected = network(x), module(x)
    assert network.why is None
    assert network.calls == (before.kernels + 1, before.original)
    assert_close(y, expected)
    return y


# ---- Gradients ----


@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
def test_gradients(training: bool) -> None:
    """Bit for bit the original's, with the same dropout."""
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


def test_what_needs_a_gradient() -> None:
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


def test_a_module_in_training_mode_may_be_given() -> None:
    module = vgg().train()
    flags = [m.training for m in module.modules()]
    network: Any = from_torch(module)
    assert [m.training for m in module.modules()] == flags
    kernels(network.eval(), module.eval())


# ---- What PyTorch follows ----


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


def test_a_default_device_changes_nothing() -> None:
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
    with pytest.raises(ValueError, match=r"torch\.jit; pass the module it was made from"):
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
        # the module's own are called as ever, with what goes in and comes out
        for one in (network, module):
            with one.register_forward_hook(lambda m, x, y: y * 2):
                assert_close(network(X), 2 * network.forward(X))
                assert network.why is None
        kernels(network, module)


def test_hooks_that_are_there_before() -> None:
    module = vgg()
    calls: list[Any] = []
    handle = module.features[0].register_forward_hook(lambda m, x, y: calls.append(y.sum()))
    network: Any = from_torch(module)
    assert not calls
    with torch.no_grad():
        original(network, module, X, "features.0 has hooks")
    handle.remove()
    kernels(network, module)


# ---- Forwards that do more ----


def test_a_forward_that_keeps_a_tensor() -> None:
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


@pytest.mark.parametrize(
    ("how", "why"),
    [
        (lambda m, x: (m.features(x), 1), "one tensor as its result"),
        (lambda m, x: m.features(x) + 1, "cannot run torch.Tensor.add"),
        (lambda m, x: torch.cat([m.features(x), m.features(x)]), "branches"),
        (lambda m, x: (y := m.features[0](x), m.features[1](y), y)[2], "branches"),
        (lambda m, x: m.features(x if x.sum() > 0 else -x), r"cannot run torch.Tensor\.sum"),
        (lambda m, x: m.features(x if x.is_contiguous() else -x), r"Tensor\.is_contiguous"),
        (lambda m, x: m.features(torch.ones_like(x)), "cannot run torch.ones_like"),
        (lambda m, x: m.features(torch.zeros(1, 3, 8, 8)), "one tensor as its result"),
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
        (lambda m, x: m.features(x).mean(1), "expected a mean over height and width"),
        (lambda m, x: m.features(x).softmax(1), "expected a softmax over the classes"),
    ],
)
def test_forwards_that_are_refused(how: Any, why: str) -> None:
    with pytest.raises(ValueError, match=rf"^Reader: .*{why}"):
        from_torch(Reader(how))


def _swallowed(bad: Callable[[], Any], good: Callable[[Any], Any], x: Any) -> Any:
    try:
        return bad()
    except Exception:
        return good(x)


def test_a_sum_that_turns_up_later() -> None:
    """Also where the forward goes on after a failure."""

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
def test_inputs_that_pytorch_refuses(x: Any, error: str) -> None:
    """With its own words."""
    network: Any = from_torch(vgg())
    with (
        torch.no_grad(),
        pytest.raises((RuntimeError, TypeError, NotImplementedError), match=error),
    ):
        network(x)
    assert network.calls == (0, 1)


def test_inputs_that_are_no_batch() -> None:
    module = vgg().features
    network: Any = from_torch(module)
    with torch.no_grad():
        original(network, module, X[:0], "no batch")
        original(network, module, X[0], "no batch")

        class Image(torch.Tensor):
            pass

        y = network(X.as_subclass(Image))
        assert type(y) is Image
        assert network.why == "the input is a Image, no plain tensor"


# ---- Weights ----


def changes() -> dict[str, Callable[[Any], Any]]:
    def optimizer(m: Any) -> None:
        for p in m.parameters():
            p.grad = torch.ones_like(p)
        torch.optim.SGD(m.parameters(), 0.01).step()

    def more_norm(m: Any) -> None:
        m.train().features(X * 3)
        m.eval()

    def replaced(m: Any) -> None:
        m.classifier[6] = nn.Linear(32, 4).eval()

    def pruned(m: Any) -> None:
        m.features[2] = nn.Identity().eval()

    return {
        "in place": lambda m: m.classifier[3].weight.mul_(1.5),
        "a view of one": lambda m: m.features[0].weight[0].zero_(),
        "bias": lambda m: m.features[0].bias.add_(1),
        "statistics": more_norm,
        "epsilon": lambda m: setattr(m.features[1], "eps", 0.5),
        "optimizer": optimizer,
        "load_state_dict": lambda m: m.load_state_dict(vgg(batch_norm=True, seed=9).state_dict()),
        "assigned": lambda m: m.load_state_dict(
            vgg(batch_norm=True, seed=9).state_dict(), assign=True
        ),
        "another head": replaced,
        "a layer less": pruned,
        "half and back": lambda m: m.half().float(),
        "data replaced": lambda m: setattr(m.features[0].weight, "data", torch.ones(8, 3, 3, 3)),
        "without the head": lambda m: setattr(m, "classifier", nn.Identity().eval()),
    }


@pytest.mark.parametrize("change", changes())
def test_changed_weights_are_noticed(change: str) -> None:
    module = vgg(batch_norm=True)
    network: Any = from_torch(module)
    before = kernels(network, module)
    with torch.no_grad():
        changes()[change](module)
    after = kernels(network, module)
    assert before.shape != after.shape or not torch.equal(before, after)
    found = network.__dict__["_vgg_cuda_runtime"].packed._found
    kernels(network, module)
    assert network.__dict__["_vgg_cuda_runtime"].packed._found is found  # packed once


def test_memory_at_an_old_address_is_not_taken_for_the_old() -> None:
    module = sequential(nn.Conv2d(3, 8, 3, padding=1)).requires_grad_(False)
    network = from_torch(module)
    for value in range(8):  # the allocator gives the same memory again
        module[0].weight.data = torch.full((8, 3, 3, 3), float(value))
        assert_close(network(X), module(X))


def test_data_needs_refresh() -> None:
    module = vgg().requires_grad_(False)
    network: Any = from_torch(module)
    before = network(X)
    for p in module.parameters():
        p.data.mul_(1.1)
    assert torch.equal(network(X), before)  # none of them, not some
    network.refresh()
    kernels(network, module)
    assert not torch.equal(network(X), before)


def test_inference_tensors() -> None:
    with torch.inference_mode():
        module = vgg()
        network: Any = from_torch(module)
        kernels(network, module)
        module.features[0].weight.mul_(2)
        kernels(network, module)


def test_swapped_tensors() -> None:
    """With PyTorch's other way to convert modules, which dislikes weak references."""
    module = vgg()
    network: Any = from_torch(module)
    kernels(network, module)
    torch.__future__.set_swap_module_params_on_conversion(True)
    try:
        module.load_state_dict(vgg(seed=4).state_dict())
        module.double().float()
    finally:
        torch.__future__.set_swap_module_params_on_conversion(False)
    kernels(network, module)


def test_weights_that_are_not_finite() -> None:
    module = vgg()
    network: Any = from_torch(module)
    with torch.no_grad():
        module.classifier[3].bias[2] = torch.nan
        for _ in range(2):
            assert network(X).isnan().all()
            assert "classifier.3" in network.why or "finite" in network.why
        module.classifier[3].bias[2] = 0
    kernels(network, module)
    module.features[0].weight.data.fill_(torch.inf)
    with pytest.raises(WeightsError, match="finite"):
        from_torch(module)


def test_lazy_layers() -> None:
    """They have hooks that make them ordinary ones in the first call."""
    module = nn.Sequential(nn.LazyConv2d(8, 3, padding=1), nn.ReLU()).eval()
    network: Any = from_torch(module)
    with torch.no_grad():
        original(network, module, X, "0 has hooks")
    kernels(network, module)


def test_batch_norms_that_do_not_count() -> None:
    """PyTorch does not tell when it updates their statistics."""
    module = vgg(batch_norm=True)
    module.features[4].num_batches_tracked = None
    with pytest.raises(ValueError, match=r"features\.4: expected batch norms with num_batches"):
        from_torch(module)


def test_computed_weights() -> None:
    module = vgg()
    parametrizations.weight_norm(module.features[0])
    with pytest.raises(
        ValueError, match=r"features\.0: expected plain parameters, got a Tensor in Par"
    ):
        from_torch(module)


# ---- The module ----


def test_state_dict() -> None:
    module = vgg(batch_norm=True)
    network: Any = from_torch(module)
    ours, theirs = network.state_dict(), module.state_dict()
    assert list(ours) == list(theirs)
    assert all(ours[name].data_ptr() == theirs[name].data_ptr() for name in ours)
    assert ours._metadata == theirs._metadata
    assert [n for n, _ in network.named_parameters()] == [n for n, _ in module.named_parameters()]
    assert isinstance(network, TorchVGG)
    assert network.load_state_dict(vgg(batch_norm=True, seed=2).state_dict()).missing_keys == []
    with pytest.raises(RuntimeError, match="Error"):
        network.load_state_dict({})
    file = io.BytesIO()
    torch.save(network.state_dict(), file)
    file.seek(0)
    vgg(batch_norm=True).load_state_dict(torch.load(file, weights_only=True))
    kernels(network, module)


def test_copies() -> None:
    module = vgg()
    network: Any = from_torch(module, dtype="float32")
    y = kernels(network, module)
    twin = copy.deepcopy(network)
    assert type(twin) is type(network)
    assert twin.calls == (0, 0)
    with torch.no_grad():
        module.features[0].weight.zero_()
    assert_close(kernels(twin, copy.deepcopy(twin)), y)
    kernels(network, module)
    assert twin.__dict__["_vgg_cuda_runtime"].dtype == "float32"
    kernels(copy.copy(network), module)


def test_pickles(tmp_path: Path) -> None:
    module = sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU())
    torch.save(from_torch(module), tmp_path / "m.pt")
    network: Any = torch.load(tmp_path / "m.pt", weights_only=False)
    kernels(network, module)


def test_the_same_threads_and_forks() -> None:
    module = vgg()
    network: Any = from_torch(module)
    network.refresh()
    results: list[Any] = []

    def work() -> None:
        with torch.inference_mode():
            results.extend(network(X) for _ in range(4))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 16
    assert all(torch.equal(y, results[0]) for y in results)
    assert network.calls == (16, 0)
    with network.__dict__["_vgg_cuda_runtime"].packed._lock:  # as another thread would
        child = os.fork()
        if child == 0:
            os._exit(0 if network.__dict__["_vgg_cuda_runtime"].packed._lock.acquire(False) else 1)
    assert os.waitpid(child, 0)[1] == 0


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
    "leaky": (layers(CONV, nn.LeakyReLU()), "1: cannot run .*leaky_relu"),
    "group norm": (layers(CONV, nn.GroupNorm(2, 8)), "1: cannot run .*group_norm"),
    "norm last": (layers(CONV, nn.ReLU(), nn.BatchNorm2d(8)), "2: expected batch norms right"),
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
        r"by torch\.compile; pass the module before",
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
    with pytest.raises(ValueError, match="unknown dtype 'int8': expected float32 or tf32"):
        from_torch(vgg(), dtype=torch.int8)
    module = vgg()
    module.forward = lambda x: x  # type: ignore[method-assign]
    with pytest.raises(ValueError, match="its forward was replaced on the object"):
        from_torch(module)
    module = vgg()
    module.calls = 3  # type: ignore[assignment]
    with pytest.raises(ValueError, match="has an attribute 'calls'"):
        from_torch(module)


def test_gpus_that_are_not_there() -> None:
    """Parameters on a device without kernels: the original, and why."""
    module = vgg().to("meta")
    network: Any = from_torch(module)
    with torch.no_grad():
        assert network(torch.empty(1, 3, 32, 32, device="meta")).shape == (1, 10)
    assert "no kernels compute in torch.float32 on meta" in network.why


def test_without_pytorch(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.delitem(sys.modules, torch_accelerated.__name__)
    with pytest.raises(ImportError, match=r'needs PyTorch: pip install "vgg-cuda\[torch\]"'):
        from_torch(None)  # type: ignore[arg-type]
