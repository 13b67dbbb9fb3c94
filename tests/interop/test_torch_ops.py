"""The operators ``torch.ops.vgg_cuda.*``: opcheck, values, strides and gradients."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from support.tolerance import assert_close
from torch.library import opcheck

from vgg_cuda.interop import torch_ops

OPS = torch.ops.vgg_cuda
GRADIENTS = 1e-5  # relative L2 error


class Case(NamedTuple):
    """Arguments of conv3x3."""

    shape: tuple[int, int, int, int]
    K: int
    relu: bool = False
    pool: bool = False
    bias: bool = True
    layout: str = "contiguous"

    def __str__(self) -> str:
        n, c, h, w = self.shape
        flags = [name for name in ("relu", "pool", "bias") if getattr(self, name)]
        return "-".join([f"n{n}-c{c}-h{h}-w{w}-k{self.K}", *flags, self.layout])


CASES = [
    Case((2, 3, 7, 6), 5),
    Case((2, 3, 7, 6), 5, relu=True, layout="channels_last"),
    Case((1, 16, 4, 8), 4, relu=True, pool=True),
    Case((3, 16, 5, 5), 8, pool=True, bias=False, layout="channels_last"),
    Case((1, 1, 2, 2), 1, relu=True, pool=True, layout="channels_last"),
    Case((1, 1, 3, 3), 6, layout="channels_last"),
    Case((2, 4, 1, 1), 1, bias=False, layout="sliced"),
    Case((2, 4, 6, 6), 3, relu=True, pool=True, layout="sliced"),
    Case((2, 4, 6, 6), 3, relu=True, layout="expanded"),
    Case((0, 3, 4, 4), 2, relu=True, pool=True),
]


def image(shape: tuple[int, ...], layout: str = "contiguous", seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    n, c, h, w = shape
    if layout == "sliced":
        return torch.randn(n, c, h, 2 * w, generator=generator)[..., ::2]
    if layout == "expanded":
        return torch.randn(n, 1, h, w, generator=generator).expand(*shape)
    x = torch.randn(shape, generator=generator)
    return x.to(memory_format=torch.channels_last) if layout == "channels_last" else x


def parameters(case: Case) -> tuple[torch.Tensor, torch.Tensor | None]:
    generator = torch.Generator().manual_seed(1)
    w = torch.randn(case.K, case.shape[1], 3, 3, generator=generator)
    return w, torch.randn(case.K, generator=generator) if case.bias else None


def reference(
    x: torch.Tensor, w: torch.Tensor, bias: torch.Tensor | None, relu: bool, pool: bool
) -> torch.Tensor:
    y = F.conv2d(x, w, bias, padding=1)
    y = F.relu(y) if relu else y
    return F.max_pool2d(y, 2) if pool else y


# ---- opcheck ----


@pytest.mark.parametrize("case", CASES, ids=str)
def test_opcheck_conv3x3(case: Case) -> None:
    x = image(case.shape, case.layout)
    w, bias = parameters(case)
    if case.relu:  # the others check inference
        x, w = x.requires_grad_(), w.requires_grad_()
        bias = bias if bias is None else bias.requires_grad_()
    opcheck(OPS.conv3x3.default, (x, w, bias, case.relu, case.pool))


@pytest.mark.parametrize("grad", [False, True], ids=["inference", "grad"])
@pytest.mark.parametrize("layout", ["contiguous", "channels_last", "sliced"])
def test_opcheck_maxpool2x2(layout: str, grad: bool) -> None:
    opcheck(OPS.maxpool2x2.default, (image((2, 3, 5, 4), layout).requires_grad_(grad),))


@pytest.mark.parametrize("grad", [False, True], ids=["inference", "grad"])
@pytest.mark.parametrize("bias", [False, True], ids=["", "bias"])
@pytest.mark.parametrize("relu", [False, True], ids=["", "relu"])
def test_opcheck_linear(relu: bool, bias: bool, grad: bool) -> None:
    x, w, b = torch.randn(3, 10)[:, ::2], torch.randn(4, 5), torch.randn(4)
    arguments = [each.requires_grad_(grad) for each in (x, w, b)]
    opcheck(OPS.linear.default, (*arguments[:2], arguments[2] if bias else None, relu))


# ---- Values ----


@pytest.mark.parametrize("case", CASES, ids=str)
def test_conv3x3_equals_pytorchs(case: Case) -> None:
    x = image(case.shape, case.layout)
    w, bias = parameters(case)
    y = OPS.conv3x3(x, w, bias, relu=case.relu, pool=case.pool)
    expected = reference(x, w, bias, case.relu, case.pool)
    assert_close(y, expected)
    assert y.numel() == 0 or y.stride() == expected.stride()


@pytest.mark.parametrize("layout", ["contiguous", "channels_last", "sliced"])
def test_maxpool2x2_equals_pytorchs(layout: str) -> None:
    x = image((2, 5, 7, 6), layout)
    y, expected = OPS.maxpool2x2(x), F.max_pool2d(x, 2)
    assert torch.equal(y, expected)
    assert y.stride() == expected.stride()


@pytest.mark.parametrize("relu", [False, True], ids=["", "relu"])
def test_linear_equals_pytorchs(relu: bool) -> None:
    x, w, bias = torch.randn(3, 5), torch.randn(4, 5), torch.randn(4)
    expected = F.linear(x, w, bias)
    assert_close(OPS.linear(x, w, bias, relu), F.relu(expected) if relu else expected)
    assert_close(OPS.linear(x, w), F.linear(x, w))


@pytest.mark.parametrize("axis", [2, 3])
def test_dense_weights_may_be_a_view(axis: int) -> None:
    x, w = image((1, 4, 5, 5)), torch.randn(6, 4, 3, 3).transpose(2, 3).flip(axis)
    assert_close(OPS.conv3x3(x, w), F.conv2d(x, w, padding=1))
    matrix = torch.randn(5, 7).t()
    assert_close(OPS.linear(torch.randn(2, 5).fill_(1), matrix), matrix.sum(1).expand(2, 7))


# ---- Gradients ----


def gradients(f: Callable[..., torch.Tensor], *arguments: Any) -> list[torch.Tensor]:
    """Return the gradients of sum(f²), and a second derivative for x."""
    given = [None if t is None else t.detach().clone().requires_grad_() for t in arguments]
    leaves = [t for t in given if t is not None]
    first = torch.autograd.grad(f(*given).square().sum(), leaves, create_graph=True)
    second = torch.autograd.grad(
        first[0].square().sum(), leaves, allow_unused=True, materialize_grads=True
    )
    return [*first, *second]


@pytest.mark.parametrize("case", [c for c in CASES if c.shape[0]], ids=str)
def test_gradients_of_conv3x3(case: Case) -> None:
    x = image(case.shape, case.layout)
    w, bias = parameters(case)
    got = gradients(lambda *given: OPS.conv3x3(*given, relu=case.relu, pool=case.pool), x, w, bias)
    expected = gradients(lambda *given: reference(*given, case.relu, case.pool), x, w, bias)
    for each, wanted in zip(got, expected, strict=True):
        assert_close(each.detach(), wanted.detach(), GRADIENTS)


def test_gradients_of_maxpool2x2() -> None:
    x = image((2, 3, 5, 4), "channels_last")
    got = gradients(OPS.maxpool2x2, x)
    for each, wanted in zip(got, gradients(lambda x: F.max_pool2d(x, 2), x), strict=True):
        assert_close(each.detach(), wanted.detach(), GRADIENTS)


@pytest.mark.parametrize("relu", [False, True], ids=["", "relu"])
@pytest.mark.parametrize("bias", [False, True], ids=["", "bias"])
def test_gradients_of_linear(bias: bool, relu: bool) -> None:
    given = torch.randn(3, 5), torch.randn(4, 5), torch.randn(4) if bias else None

    def expected(*given: Any) -> torch.Tensor:
        return F.relu(F.linear(*given)) if relu else F.linear(*given)

    got = gradients(lambda *given: OPS.linear(*given, relu=relu), *given)
    for each, wanted in zip(got, gradients(expected, *given), strict=True):
        assert_close(each.detach(), wanted.detach(), GRADIENTS)


def test_gradient_of_the_weights_only() -> None:
    x, w = image((2, 4, 6, 6)), torch.randn(3, 4, 3, 3, requires_grad=True)
    OPS.conv3x3(x, w, torch.randn(3), relu=True).sum().backward()
    assert x.grad is None
    assert w.grad is not None


# ---- Tracing ----


class Block(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.w = torch.nn.Parameter(torch.randn(8, 3, 3, 3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return OPS.maxpool2x2(OPS.conv3x3(x, self.w, relu=True)) + 1


def test_exported_programs_call_the_operators() -> None:
    block, x = Block(), image((2, 3, 8, 8))
    batch = torch.export.Dim("batch", min=2)
    program = torch.export.export(block, (x,), dynamic_shapes={"x": {0: batch}})
    names = {str(node.target) for node in program.graph.nodes}
    assert {"vgg_cuda.conv3x3.default", "vgg_cuda.maxpool2x2.default"} <= names
    x = image((5, 3, 8, 8), seed=2)
    assert_close(program.module()(x).detach(), block(x).detach())


def test_operators_compile_with_gradients() -> None:
    block, x = Block(), image((2, 3, 8, 8))
    compiled = torch.compile(block, backend="aot_eager", fullgraph=True)
    y = compiled(x)
    y.sum().backward()
    got = block.w.grad
    block.w.grad = None
    block(x).sum().backward()
    assert_close(y.detach(), block(x).detach())
    assert_close(got, block.w.grad, GRADIENTS)


# ---- Bad input ----

X, W, B = (2, 3, 4, 4), (5, 3, 3, 3), (5,)
BAD = {
    "rank of x": (
        "conv3x3",
        ((3, 4, 4), W),
        ValueError,
        r"x: expected \[N, C, H, W\].*\(3, 4, 4\)",
    ),
    "channels": ("conv3x3", (X, (5, 4, 3, 3)), ValueError, r"w: expected \[K, 3, 3, 3\], got"),
    "KRSC": ("conv3x3", (X, (5, 3, 3, 2)), ValueError, r"w: expected \[K, 3, 3, 3\], got"),
    "no filters": ("conv3x3", (X, (0, 3, 3, 3)), ValueError, "w: expected K >= 1"),
    "no channels": ("conv3x3", ((2, 0, 4, 4), (5, 0, 3, 3)), ValueError, "x: .* C >= 1"),
    "bias": ("conv3x3", (X, W, (4,)), ValueError, r"bias: expected \[5\], got \(4,\)"),
    "bias of rank 2": ("conv3x3", (X, W, (5, 1)), ValueError, r"bias: expected \[5\]"),
    "too small a pool": ("maxpool2x2", ((1, 1, 1, 8),), ValueError, "x: .* H, W >= 2"),
    "rank of a pool": ("maxpool2x2", ((8, 8),), ValueError, r"x: expected \[N, C, H, W\]"),
    "rank of rows": ("linear", ((2, 3, 4), (5, 4)), ValueError, r"x: expected \[N, C\]"),
    "features": ("linear", ((2, 3), (5, 4)), ValueError, r"w: expected \[K, 3\], got \(5, 4\)"),
    "bias of rows": ("linear", ((2, 3), (5, 3), (1,)), ValueError, r"bias: expected \[5\]"),
}


@pytest.mark.parametrize("fake", [False, True], ids=["real", "fake"])
@pytest.mark.parametrize("bad", BAD)
def test_wrong_shapes_are_refused(bad: str, fake: bool) -> None:
    op, shapes, error, text = BAD[bad]
    device = "meta" if fake else "cpu"
    with pytest.raises(error, match=f"vgg_cuda::{op}: {text}"):
        getattr(OPS, op)(*(torch.zeros(shape, device=device) for shape in shapes))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16, torch.uint8])
def test_dtypes_without_cpu_kernels(dtype: torch.dtype) -> None:
    x, w, rows = torch.zeros(X, dtype=dtype), torch.zeros(W, dtype=dtype), torch.zeros(2, 3)
    for call in (
        lambda: OPS.conv3x3(x, w),
        lambda: OPS.maxpool2x2(x),
        lambda: OPS.linear(rows.to(dtype), rows.to(dtype)),
    ):
        with pytest.raises(TypeError, match=f"x: expected dtype float32 on cpu, got {dtype}"):
            call()


def test_weights_of_another_dtype() -> None:
    x = image(X)
    with pytest.raises(
        TypeError, match=r"w: expected torch.float32 on cpu as x, got torch.float64"
    ):
        OPS.conv3x3(x, torch.zeros(W, dtype=torch.float64))
    with pytest.raises(
        TypeError, match=r"bias: expected torch.float32 on cpu as x, got .* on meta"
    ):
        OPS.linear(torch.zeros(2, 3), torch.zeros(5, 3), torch.zeros(5, device="meta"))


def test_device_without_kernels() -> None:
    with pytest.raises(ValueError, match="device: expected"):
        torch_ops.backend_of(torch.device("meta"))


@pytest.mark.parametrize("module", ["torch_ops", "torch_cache", "torch_compile"])
def test_error_without_pytorch_names_the_extra(module: str) -> None:
    program = f"import sys; sys.modules['torch'] = None; import vgg_cuda.interop.{module}"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert 'pip install ".[torch]" in a clone of vgg_cuda' in done.stderr
