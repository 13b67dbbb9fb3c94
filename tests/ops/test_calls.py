"""Behaviour common to all operations: array kinds, out, stats, packing, dtypes, images."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from support.call_cases import BIAS, OPS, Op, W, X, draw
from support.kernel_reference import draw as draw_in
from support.kernel_reference import factors

from vgg_cuda import PRESETS, VGG, ops
from vgg_cuda.backends import get_backend, recording

# ---- Kinds, layouts, results ----


def test_result_has_kind_of_input(device: str, op: tuple[Op, Any]) -> None:
    call, x = op
    expected = call(x, device=device)
    tensor = call(torch.from_numpy(x), device=device)
    assert isinstance(tensor, torch.Tensor)
    np.testing.assert_array_equal(tensor.numpy(), expected)
    assert type(call(x.view(np.recarray), device=device)) is np.ndarray


def test_strides_and_byte_orders(device: str, op: tuple[Op, Any]) -> None:
    call, x = op
    before = x.copy()
    expected = call(x, device=device)
    strided = np.repeat(x, 2, axis=1)[:, ::2]
    unaligned = np.frombuffer(b"?" + x.tobytes(), np.float32, offset=1).reshape(x.shape)
    for other in (strided, np.asfortranarray(x), x[::-1].copy()[::-1], unaligned, x.astype(">f4")):
        y = call(other, device=device)
        assert y.dtype == np.dtype(np.float32)
        np.testing.assert_array_equal(y, expected)
    np.testing.assert_array_equal(x, before)


def test_empty_batch_launches_nothing(device: str, op: tuple[Op, Any]) -> None:
    call, x = op
    expected = call(x, device=device)
    y, stats = call(x[:0], device=device, return_stats=True)
    assert y.shape == (0, *expected.shape[1:])
    assert y.dtype == x.dtype
    if device == "emulator":
        assert stats == {"kernel": "none", "plan": {}, "counters": {}}


def test_out_receives_result(device: str, op: tuple[Op, Any]) -> None:
    call, x = op
    expected = call(x, device=device)
    out = np.full_like(expected, np.nan)
    assert call(x, device=device, out=out) is out
    np.testing.assert_array_equal(out, expected)
    tensor = torch.full(expected.shape, torch.nan)
    assert call(torch.from_numpy(x), device=device, out=tensor) is tensor
    np.testing.assert_array_equal(tensor.numpy(), expected)
    y, stats = call(x, device=device, out=out, return_stats=True)
    assert y is out
    assert stats["kernel"]


def test_bad_out_is_rejected(device: str, op: tuple[Op, Any]) -> None:
    call, x = op
    y = call(x, device=device)

    def refused(out: Any, error: type[Exception], text: str) -> None:
        with pytest.raises(error, match=f": out: {text}"):
            call(x, device=device, out=out)

    refused(np.empty((*y.shape, 1), y.dtype), ValueError, "expected \\[")
    refused(np.empty(y.shape, np.float64), TypeError, "expected dtype float32, got float64")
    refused(np.empty(y.shape, ">f4"), TypeError, "expected dtype float32, got >f4")
    refused(np.empty((*y.shape, 2), y.dtype)[..., 0], ValueError, "expected a C-contiguous")
    frozen = np.empty_like(y)
    frozen.flags.writeable = False
    refused(frozen, ValueError, "expected a writable")
    refused(torch.empty(y.shape), TypeError, "expected an array like x, numpy.ndarray, got torch")
    refused([1.0], TypeError, "expected an array like x")


def test_overlapping_out_is_rejected(device: str) -> None:
    memory = np.zeros(X.size + 8, np.float32)
    x = memory[: X.size].reshape(X.shape)
    later = memory[8:].reshape(X.shape)
    w, bias = draw(8, 3, 3, 8), draw(8)
    for call in (ops.relu, lambda x, **k: ops.conv3x3(x, w, bias, **k)):
        with pytest.raises(ValueError, match=r"out: must not overlap x"):
            call(x, out=later, device=device)
    with pytest.raises(ValueError, match="must not overlap x"):
        ops.conv3x3(x, w, out=x, device=device)
    square = draw(4, 4)
    with pytest.raises(ValueError, match="must not overlap w"):
        ops.linear(draw(4, 4), square, out=square, device=device)
    row = draw(1, 4)
    with pytest.raises(ValueError, match="must not overlap bias"):
        ops.linear(draw(1, 3), draw(4, 3), row[0], out=row, device=device)


@pytest.mark.emulator
def test_out_overlapping_converted_inputs_is_rejected() -> None:
    """The check uses the caller's arrays, not the converted copies."""
    w = np.ones((16, 16), np.float16)
    with pytest.raises(ValueError, match="must not overlap x"):
        ops.linear(w, w, out=w, device="emulator")
    with pytest.raises(ValueError, match="must not overlap w"):
        ops.linear(w.copy(), w, out=w, device="emulator")
    row = np.ones((1, 16), np.float16)
    with pytest.raises(ValueError, match="must not overlap bias"):
        ops.linear(row.copy(), w, row[0], out=row, device="emulator")
    wide = np.zeros((4, 32), np.float32)
    with pytest.raises(ValueError, match="must not overlap x"):
        ops.relu(wide[:, ::2], out=wide.reshape(-1)[:64].reshape(4, 16), device="emulator")
    tensor = torch.ones(16, 16, dtype=torch.bfloat16)
    with pytest.raises(ValueError, match="must not overlap w"):
        ops.linear(tensor.clone(), tensor, out=tensor, device="emulator")


def test_out_between_rows_of_x(device: str) -> None:
    memory = draw(3, 16)
    x, out = memory[::2], np.empty((2, 16), np.float32)
    expected = ops.relu(x, out=out, device=device).copy()
    between = memory[1:2]
    weights = np.eye(16, dtype=np.float32)
    assert ops.linear(x[:1], weights, relu=True, out=between, device=device) is between
    np.testing.assert_array_equal(between, expected[:1])


def test_out_overlapping_packed_weights_is_rejected() -> None:
    w = draw(4, 4)
    packed = ops.pack_linear(get_backend("cpu"), w, None)
    with pytest.raises(ValueError, match="must not overlap w"):
        ops.linear(draw(4, 4), packed, out=w)


def test_out_at_unaligned_address(device: str, op: tuple[Op, Any]) -> None:
    call, x = op
    expected = call(x, device=device)
    out = np.zeros(expected.nbytes + 1, np.uint8)[1:].view(np.float32).reshape(expected.shape)
    assert not out.flags.aligned
    assert call(x, device=device, out=out) is out
    np.testing.assert_array_equal(out, expected)


# ---- bfloat16 of PyTorch, which DLPack in NumPy lacks ----


def bits(tensor: torch.Tensor) -> bytes:
    assert tensor.dtype == torch.bfloat16
    return bytes(tensor.contiguous().view(torch.int16).numpy().tobytes())


@pytest.mark.emulator
def test_bfloat16_tensors() -> None:
    on: dict[str, Any] = {"device": "emulator"}
    x, w = draw_in((2, 6, 4, 8), "bfloat16"), draw_in((5, 3, 3, 8), "bfloat16", seed=1)
    bias = draw_in((5,), "bfloat16", seed=2)

    def tensor(array: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)

    expected = ops.conv3x3(x, w, bias, relu=True, **on)
    given = tensor(x), tensor(w), tensor(bias)
    assert bits(ops.conv3x3(*given, relu=True, **on)) == expected.tobytes()
    out = torch.zeros(expected.shape, dtype=torch.bfloat16)
    assert ops.conv3x3(*given, relu=True, out=out, **on) is out
    assert bits(out) == expected.tobytes()
    swapped = tensor(x).permute(0, 2, 1, 3)
    assert bits(ops.relu(swapped, **on)) == ops.relu(x.transpose(0, 2, 1, 3), **on).tobytes()
    floats = torch.from_numpy(draw(3, 5))
    assert bits(ops.convert(floats, "bfloat16", **on)) == bits(floats.to(torch.bfloat16))
    assert bits(ops.convert(floats, torch.bfloat16)) == bits(floats.to(torch.bfloat16))
    back = ops.convert(tensor(x), torch.float32, **on)
    np.testing.assert_array_equal(back.numpy(), x.astype(np.float32))
    y = ops.linear(draw(3, 8), tensor(w)[:, 0, 0], tensor(bias))  # weights are converted
    np.testing.assert_array_equal(y, ops.linear(draw(3, 8), w[:, 0, 0], bias))
    backend = get_backend("emulator")
    packed = ops.pack_linear(backend, tensor(w)[:, 0, 0], None, dtype=torch.bfloat16)
    assert packed.dtype == "bfloat16"


@pytest.mark.emulator
def test_bfloat16_models() -> None:
    model = VGG.load("digits", device="emulator", dtype="bfloat16")
    x = draw(1, 32, 32, 3)
    y = model(torch.from_numpy(x).to(torch.bfloat16))
    expected = model(draw_in((1, 32, 32, 3), "bfloat16"))
    assert bits(y) == expected.tobytes()
    assert model(torch.from_numpy(x)).dtype == torch.bfloat16
    y = VGG.load("digits", device="cpu")(torch.from_numpy(x).to(torch.bfloat16))
    assert y.dtype == torch.float32


def test_out_may_be_x(device: str) -> None:
    for call, x in ((ops.relu, X.copy()), (ops.softmax, draw(3, 300))):
        expected = call(x, device=device)
        assert call(x, out=x, device=device) is x
        np.testing.assert_array_equal(x, expected)


def test_return_stats(device: str, op: tuple[Op, Any]) -> None:
    call, x = op
    with recording() as found:
        y, stats = call(x, device=device, return_stats=True)
    np.testing.assert_array_equal(y, call(x, device=device))
    assert found == [stats]
    assert set(stats) == {"kernel", "plan", "counters"}
    if device == "cpu":
        assert stats["kernel"].startswith("cpu_")
        assert (stats["plan"], stats["counters"]) == ({}, {})
    else:
        assert stats["plan"]["launches"][0]["kernel"] == stats["kernel"]
        assert {"mma", "wgmma"} <= set(stats["counters"])


def test_packed_weights(device: str) -> None:
    backend = get_backend(device)
    packed = ops.pack_conv3x3(backend, W, BIAS, dtype="float32")
    y = ops.conv3x3(X, packed, relu=True, device=device)
    np.testing.assert_array_equal(y, OPS["conv3x3"][0](X, device=device))
    with pytest.raises(ValueError, match="bias: expected None for packed"):
        ops.conv3x3(X, packed, BIAS, device=device)
    with pytest.raises(ValueError, match=r"expected \[N, H, W, 8\]"):
        ops.conv3x3(X[..., :4], packed, device=device)
    with pytest.raises(TypeError, match=r"dtype: expected .*float32.*, got int8"):
        ops.pack_linear(backend, draw(3, 4), None, dtype=np.int8)
    assert ops.pack_linear(backend, draw(3, 4), None, dtype=torch.float32).dtype == "float32"


@pytest.mark.emulator
def test_weights_packed_for_other_device_are_rejected() -> None:
    packed = ops.pack_conv3x3(get_backend("cpu"), W, None)
    with pytest.raises(
        ValueError, match=r"w: expected weights packed for emulator, got .* for cpu"
    ):
        ops.conv3x3(X, packed, device="emulator")
    packed = ops.pack_conv3x3(get_backend("emulator"), W, None)
    with pytest.raises(TypeError, match="packed as float32, got float16"):
        ops.conv3x3(X, packed, device="emulator")
    with pytest.raises(ValueError, match="packed for cpu"):
        ops.conv3x3(X, packed)


# ---- tf32 for float32 arrays ----


TF32 = {
    "conv3x3": (lambda x, **k: ops.conv3x3(x, W, BIAS, **k), X),
    "images": (lambda x, **k: ops.conv3x3(x, W[..., :3], BIAS, **k), X[..., :3]),
    "linear": (lambda x, **k: ops.linear(x, draw(5, 7, seed=1), BIAS, **k), draw(3, 7)),
}


@pytest.mark.emulator
@pytest.mark.parametrize(("call", "x"), TF32.values(), ids=TF32)
def test_tf32_rounds_inputs(call: Op, x: np.ndarray) -> None:
    on: dict[str, Any] = {"device": "emulator", "dtype": "tf32"}
    y, stats = call(x, return_stats=True, **on)
    assert y.dtype == np.float32
    assert "_tf32" in stats["kernel"]
    assert stats["counters"]["mma"] > 0
    np.testing.assert_array_equal(call(factors(x, "tf32"), **on), y)
    assert (y != call(x, device="emulator")).any()
    out = np.full_like(y, np.nan)
    assert call(x, out=out, **on) is out
    np.testing.assert_array_equal(out, y)
    tensor = call(torch.from_numpy(x), **on)
    assert tensor.dtype == torch.float32
    np.testing.assert_array_equal(tensor.numpy(), y)
    assert call(x[:0], **on).dtype == np.float32


@pytest.mark.emulator
def test_weights_packed_for_tf32() -> None:
    on: dict[str, Any] = {"device": "emulator", "dtype": "tf32"}
    backend = get_backend("emulator")
    packed: Any = ops.pack_conv3x3(backend, W, BIAS, dtype="tf32")
    assert (packed.dtype, packed.w.dtype) == ("tf32", np.float32)
    np.testing.assert_array_equal(ops.conv3x3(X, packed, **on), ops.conv3x3(X, W, BIAS, **on))
    dense: Any = ops.pack_linear(backend, draw(5, 7), BIAS, dtype="tf32")
    x = draw(3, 7)
    np.testing.assert_array_equal(ops.linear(x, dense, **on), ops.linear(x, draw(5, 7), BIAS, **on))
    assert backend.precisions == (*backend.dtypes, "tf32")


@pytest.mark.emulator
def test_tf32_models() -> None:
    model = VGG.load("digits", device="emulator", dtype="tf32")
    assert model.dtype == "tf32"
    x = draw(1, 32, 32, 3)
    with recording() as launched:
        y = model(x)
    assert y.dtype == np.float32
    products = [each["kernel"] for each in launched if each["plan"]["macs"]]
    assert products
    assert all("_tf32" in kernel for kernel in products)
    nchw = np.ascontiguousarray(x.transpose(0, 3, 1, 2))
    np.testing.assert_array_equal(model(nchw, layout="NCHW"), y)
    np.testing.assert_array_equal(
        model(x.astype(np.float16)), model(x.astype(np.float16).astype(np.float32))
    )


# ---- Images and conversion ----


@pytest.mark.parametrize("preset", PRESETS)
def test_preset_normalizes_images(device: str, preset: str) -> None:
    pixels = draw_in((2, 5, 6, 3), "uint8")
    w = draw(4, 3, 3, 3, seed=1)
    x = PRESETS[preset].normalize(pixels)
    expected = ops.conv3x3(x, w, BIAS[:4], relu=True)
    for given in (preset, PRESETS[preset]):
        y = ops.conv3x3(
            pixels, w, BIAS[:4], relu=True, preset=given, dtype="float32", device=device
        )
        if device == "cpu":
            np.testing.assert_array_equal(y, expected)
        else:
            np.testing.assert_allclose(y, expected, atol=1e-5 * np.abs(x).max(), rtol=1e-5)


def test_images_without_preset(device: str) -> None:
    pixels, w = draw_in((1, 5, 6, 3), "uint8"), draw(4, 3, 3, 3, seed=1)
    expected = ops.conv3x3(pixels.astype(np.float32), w, device=device)
    y = ops.conv3x3(pixels, w, dtype="float32", device=device)
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-3)
    assert ops.conv3x3(pixels, w, device=device).dtype == get_backend(device).dtypes[0]


def test_bad_images_are_rejected(device: str) -> None:
    w = draw(4, 3, 3, 3)
    with pytest.raises(ValueError, match=r"expected uint8 \[N, H, W, 3\]"):
        ops.conv3x3(np.zeros((1, 4, 4, 8), np.uint8), W, device=device)
    with pytest.raises(TypeError, match="preset: expected uint8 x"):
        ops.conv3x3(draw(1, 4, 4, 3), w, preset="torchvision", device=device)
    with pytest.raises(ValueError, match=r"preset: expected one of .*, got 'x'"):
        ops.conv3x3(np.zeros((1, 4, 4, 3), np.uint8), w, preset="x", device=device)
    with pytest.raises(TypeError, match=r"floating-point.*uint8"):
        ops.maxpool2x2(np.zeros((1, 4, 4, 3), np.uint8), device=device)
    with pytest.raises(TypeError, match=r"dtype: expected .*got int8"):
        ops.conv3x3(np.zeros((1, 4, 4, 3), np.uint8), w, dtype=np.int8, device=device)


def test_convert_dtypes_and_layouts(device: str) -> None:
    pixels = draw_in((2, 3, 5, 4), "uint8")
    nhwc = ops.convert(pixels, "float32", source="NCHW", device=device)
    np.testing.assert_array_equal(nhwc, pixels.transpose(0, 2, 3, 1))
    back = ops.convert(nhwc, target="NCHW", device=device)
    np.testing.assert_array_equal(back, pixels)
    half = ops.convert(draw(3, 5), np.float16, device=device)
    np.testing.assert_array_equal(half, draw(3, 5).astype(np.float16))
    copy = ops.convert(X, device=device)
    assert not np.shares_memory(copy, X)
    np.testing.assert_array_equal(copy, X)
    assert ops.convert(np.zeros(3, np.uint8), device=device).dtype == get_backend(device).dtypes[0]
    assert ops.convert(torch.zeros(3), torch.float16, device=device).dtype == torch.float16
    with pytest.raises(ValueError, match="source: expected NHWC or NCHW, got 'HWC'"):
        ops.convert(X, source="HWC", device=device)
    with pytest.raises(ValueError, match="rank 4"):
        ops.convert(draw(3, 4), source="NCHW", device=device)
    with pytest.raises(TypeError, match=r"dtype: expected .*, got int32"):
        ops.convert(X, np.int32, device=device)
