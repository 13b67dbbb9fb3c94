"""Rejected arguments of operations: arrays, shapes, devices, dtypes, options and memory."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from support.call_cases import BIAS, OPS, Op, W, X, draw

from vgg_cuda import VGG, ops
from vgg_cuda.backends import DeviceError, get_backend, why_missing
from vgg_cuda.text import format_bytes

# ---- Arrays, shapes, devices ----


def test_bad_arrays_are_rejected(device: str, op: tuple[Op, Any]) -> None:
    call, x = op

    def refused(x: Any, error: type[Exception], text: str) -> None:
        with pytest.raises(error, match=text):
            call(x, device=device)

    refused(x.tolist(), TypeError, "x: expected an array .*got list")
    refused(None, TypeError, "x: expected an array .*got NoneType")
    refused(np.ma.masked_array(x), TypeError, "x: expected an array without a mask")
    refused(x.astype(np.int32), TypeError, "floating-point.*int32")
    refused(x.astype(np.complex64), TypeError, "floating-point.*complex64")
    refused(torch.from_numpy(x).requires_grad_(), TypeError, r"detach\(\)")
    if call not in (ops.relu,):
        refused(x[0], ValueError, "rank")


def test_float64_is_rejected(device: str) -> None:
    with pytest.raises(TypeError, match=f"x: expected dtype float.* on {device}, got float64"):
        ops.relu(X.astype(np.float64), device=device)


@pytest.mark.emulator
def test_only_images_allow_other_precisions() -> None:
    text = "conv3x3: dtype: expected float32 or tf32 for float32 x, got float16; uint8 or float32"
    with pytest.raises(TypeError, match=text):
        ops.conv3x3(X, W, dtype="float16", device="emulator")
    with pytest.raises(TypeError, match="linear: dtype: expected float32 or tf32 for float32 x, "):
        ops.linear(X[0, 0], W[:, 0, 0], dtype="float16", device="emulator")
    y = ops.conv3x3(X[..., :3], W[..., :3], dtype="float16", device="emulator")
    assert y.dtype == np.float16


def test_float64_and_torch_weights_are_accepted(device: str) -> None:
    y = ops.conv3x3(X, W.astype(np.float64), BIAS.astype(np.float64), relu=True, device=device)
    np.testing.assert_array_equal(y, OPS["conv3x3"][0](X, device=device))
    y = ops.conv3x3(X, torch.from_numpy(W), torch.from_numpy(BIAS), relu=True, device=device)
    np.testing.assert_array_equal(y, OPS["conv3x3"][0](X, device=device))


BAD_SHAPES = [
    (lambda **k: ops.conv3x3(X, draw(64, 3, 3, 4), **k), r"w: expected \[64, 3, 3, 8\] \(KRSC\)"),
    (lambda **k: ops.conv3x3(X, draw(4, 5, 5, 8), **k), r"w: expected \[4, 3, 3, 8\] \(KRSC\)"),
    (lambda **k: ops.conv3x3(X, draw(0, 3, 3, 8), **k), "w: expected"),
    (lambda **k: ops.conv3x3(X, W, draw(4), **k), r"bias: expected \[5\]"),
    (lambda **k: ops.conv3x3(X[:, :1], W, pool=True, **k), "H, W >= 2"),
    (lambda **k: ops.conv3x3(X[:, :0], W, **k), "H, W >= 1"),
    (lambda **k: ops.maxpool2x2(X[:, :, :1], **k), "H, W >= 2"),
    (lambda **k: ops.avgpool(X, 0, **k), "grid: expected an integer >= 1, got 0"),
    (lambda **k: ops.adaptive_maxpool(X, -1, **k), "grid: expected an integer >= 1, got -1"),
    (lambda **k: ops.adaptive_maxpool(X[:, :, :0], **k), "H, W >= 1"),
    (lambda **k: ops.affine(X, draw(7), draw(8), **k), r"affine: scale: expected \[8\], got \(7,"),
    (lambda **k: ops.affine(X, draw(8), draw(1, 8), **k), r"affine: shift: expected \[8\], got"),
    (lambda **k: ops.linear(draw(1, 4), draw(3, 5), **k), r"w: expected \[K, 4\]"),
    (lambda **k: ops.linear(draw(1, 4), draw(3, 4), draw(2), **k), r"bias: expected \[3\]"),
    (lambda **k: ops.softmax(draw(1, 0), **k), "C >= 1"),
]


@pytest.mark.parametrize(("call", "text"), BAD_SHAPES)
def test_bad_shapes_are_rejected(device: str, call: Op, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        call(device=device)


def test_bad_devices_are_rejected() -> None:
    with pytest.raises(ValueError, match=r'relu: device: expected "auto".*"emulator", got .tpu'):
        ops.relu(X, device="tpu")
    with pytest.raises(ValueError, match=r"arch: expected None on the cpu, .* got 'sm_80'"):
        ops.relu(X, arch="sm_80")
    with pytest.raises(ValueError, match="stream: expected None on the cpu"):
        ops.relu(X, stream=0)
    np.testing.assert_array_equal(ops.relu(X, device="auto"), np.maximum(X, 0))
    if why_missing("cuda") is None:
        with pytest.raises(ValueError, match=r"x: expected an array on cuda, got .*cupy.asarray"):
            ops.relu(X, device="cuda")
    else:
        with pytest.raises(DeviceError, match="'cuda' is not available"):
            ops.relu(X, device="cuda")


@pytest.mark.emulator
def test_emulator_rejects_bad_arguments() -> None:
    with pytest.raises(ValueError, match=r"relu: .*sm_80.*'sm_75'"):
        ops.relu(X, device="emulator", arch="sm_75")
    with pytest.raises(ValueError, match="stream: expected None on the emulator"):
        ops.relu(X, device="emulator", stream=0)
    with pytest.raises(ValueError, match="schedule: expected one of forward, reverse"):
        ops.emulator_options(schedule="backwards").__enter__()  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="workers: expected an integer >= 0"):
        ops.emulator_options(workers=-1).__enter__()
    with ops.emulator_options(schedule="random", seed=3), ops.emulator_options(lazy=False) as inner:
        assert (inner.schedule, inner.seed, inner.lazy) == ("random", 3, False)


def test_build_without_emulator_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    from vgg_cuda import _C

    monkeypatch.setattr(_C, "built_with_emulator", lambda: False)
    for how in ("pip install . -C cmake.define.VGG_CUDA_EMULATOR=ON", "make dev"):
        assert how in str(why_missing("emulator"))
        with pytest.raises(DeviceError, match="'emulator' is not available: ") as caught:
            ops.relu(X, device="emulator")
        assert how in str(caught.value)


class Row(NamedTuple):
    """A call, the error it raises, and part of its text."""

    call: Callable[..., Any]
    error: type[Exception]
    text: str


def packed(kind: str, device: str) -> Any:
    weights = {"conv3x3": W, "linear": draw(5, 8)}[kind]
    return getattr(ops, f"pack_{kind}")(get_backend(device), weights, None, dtype="float32")


POINT = np.float32(1)[...]
TENSOR = torch.zeros(2, 3, requires_grad=True)
NO_NAME: Any = 80
NO_NAMES: Any = ["sm_80"]
ROWS: dict[str, Row] = {
    "packed linear weights in conv3x3": Row(
        lambda device: ops.conv3x3(X, packed("linear", device), device=device), TypeError,
        "conv3x3: w: expected an array or pack_conv3x3's result, got pack_linear's",
    ),
    "packed conv3x3 weights in linear": Row(
        lambda device: ops.linear(draw(1, 8), packed("conv3x3", device), device=device), TypeError,
        "linear: w: expected an array or pack_linear's result, got pack_conv3x3's",
    ),
    **{
        f"grid {grid!r} of {op.__name__}": Row(
            lambda device, op=op, grid=grid: op(X, grid, device=device), TypeError,
            f"{op.__name__}: grid: expected an integer >= 1, got {grid!r}",
        )
        for op in (ops.avgpool, ops.adaptive_maxpool)
        for grid in (2.5, "7", None, True, [3])
    },
    "preset": Row(
        lambda device: ops.conv3x3(
            np.zeros((1, 4, 4, 3), np.uint8), W[..., :3], preset=NO_NAME, device=device
        ),
        TypeError, "preset: expected a name or a Preset, got 80",
    ),
    "0-d w of conv3x3": Row(
        lambda device: ops.conv3x3(X, POINT, device=device), ValueError,
        "conv3x3: w: expected [K, 3, 3, 8] (KRSC), got ()",
    ),
    "0-d w of linear": Row(
        lambda device: ops.linear(draw(1, 8), POINT, device=device), ValueError,
        "linear: w: expected [K, 8], got ()",
    ),
    "0-d w to be packed": Row(
        lambda device: ops.pack_conv3x3(get_backend(device), POINT, None), ValueError,
        "conv3x3: w: expected [K, 3, 3, C] (KRSC), got ()",
    ),
    "0-d bias": Row(
        lambda device: ops.linear(draw(1, 8), draw(1, 8), POINT, device=device), ValueError,
        "linear: bias: expected [1], got ()",
    ),
    "x that requires grad": Row(
        lambda device: ops.relu(TENSOR, device=device), TypeError,
        "relu: x: expected a tensor that does not require grad, got one that does; pass x.detach()",
    ),
    "w that requires grad": Row(
        lambda device: ops.linear(draw(1, 3), TENSOR, device=device), TypeError,
        "got one that does; pass w.detach()",
    ),
    "arch 80": Row(
        lambda device: ops.relu(X, device=device, arch=NO_NAME), TypeError,
        'relu: arch: expected a name such as "sm_80", got 80',
    ),
    "a list of archs": Row(
        lambda device: ops.relu(X, device=device, arch=NO_NAMES), TypeError,
        "relu: arch: expected a name such as \"sm_80\", got ['sm_80']",
    ),
    "no arch": Row(lambda device: ops.relu(X, device=device, arch=""), ValueError, "''"),
    "a stream": Row(
        lambda device: ops.relu(X, device=device, stream=0), ValueError,
        "relu: stream: expected None on the ",
    ),
    "a device's name for a backend": Row(
        lambda device: ops.pack_conv3x3(device, W, None), TypeError,
        "pack_conv3x3: backend: expected a backend from vgg_cuda.backends.get_backend(), got '",
    ),
}  # fmt: skip


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
def test_bad_argument_gives_one_clear_error(device: str, row: Row) -> None:
    with pytest.raises(row.error, match=re.escape(row.text)):
        row.call(device=device)


def test_objects_that_are_no_device_are_rejected() -> None:
    for given in (0, b"cpu", ["cpu"], object, torch.float32):
        with pytest.raises(TypeError, match=r'relu: device: expected "auto"'):
            ops.relu(X, device=given)
        with pytest.raises(TypeError, match=r'device: expected "auto"'):
            get_backend(given)
    with pytest.raises(ValueError, match=r"relu: device: expected .*, got 'meta'"):
        ops.relu(X, device=torch.device("meta"))


def test_torch_devices_are_accepted() -> None:
    assert get_backend(torch.device("cpu")) is get_backend("cpu")
    np.testing.assert_array_equal(ops.relu(X, device=torch.device("cpu")), np.maximum(X, 0))
    if why_missing("cuda", 1) is not None:
        with pytest.raises(DeviceError, match="device 'cuda:1' is not available"):
            ops.relu(X, device=torch.device("cuda:1"))


def test_cpu_rejects_other_dtypes() -> None:
    for x, name in ((X.astype("f2"), "float16"), (torch.zeros(3).bfloat16(), "bfloat16")):
        text = (
            f"relu: x: expected dtype float32 on cpu, got {name}; pass x.astype(numpy.float32); "
            f'device="emulator" and GPUs compute in {name}'
        )
        with pytest.raises(TypeError, match=re.escape(text)):
            ops.relu(x)
    with pytest.raises(TypeError, match="on cpu, or uint8, got dtype int32"):
        ops.convert(X.astype(np.int32))


@pytest.mark.emulator
def test_emulator_rejects_other_dtypes() -> None:
    known = "float16 or float32 or bfloat16 on emulator"
    with pytest.raises(TypeError, match=f"relu: x: expected a floating-point array, {known}, got "):
        ops.relu(X.astype(np.int32), device="emulator")
    text = f"{known}, got float64; pass x.astype(numpy.float32)"
    with pytest.raises(TypeError, match=re.escape(text) + "$"):
        ops.relu(X.astype(np.float64), device="emulator")


def test_cpu_rejects_tf32() -> None:
    for call in (
        lambda: ops.conv3x3(X, W, dtype="tf32"),
        lambda: ops.linear(draw(1, 8), draw(5, 8), dtype="tf32"),
        lambda: ops.pack_linear(get_backend("cpu"), draw(5, 8), None, dtype="tf32"),
    ):
        with pytest.raises(TypeError, match=": dtype: expected float32 on cpu, got tf32"):
            call()
    with pytest.raises(ValueError, match=r"dtype: expected float32 on cpu, got 'tf32'; .*emul"):
        VGG.load("digits", device="cpu", dtype="tf32")
    with pytest.raises(ValueError, match=r"dtype: expected float32 on cpu, got 'int8'$"):
        VGG.load("digits", device="cpu", dtype="int8")


@pytest.mark.emulator
def test_tf32_is_rejected_as_array_dtype() -> None:
    on: dict[str, Any] = {"device": "emulator"}
    advice = "got tf32; tf32 needs float32 x"
    half, images = X.astype(np.float16), X[..., :3].astype(np.float16)
    for x in (half, images):
        with pytest.raises(
            TypeError, match=f"conv3x3: .* expected float16 for float16 x, {advice}"
        ):
            ops.conv3x3(x, W[..., : x.shape[3]], dtype="tf32", **on)
    with pytest.raises(TypeError, match=f"linear: .* expected float16 for float16 x, {advice}"):
        ops.linear(half[0, 0], W[:, 0, 0], dtype="tf32", **on)
    with pytest.raises(TypeError, match=r"convert: dtype: expected float16 or .*, got tf32"):
        ops.convert(X, "tf32", **on)
    packed = ops.pack_conv3x3(get_backend("emulator"), W, None, dtype="tf32")
    y = ops.conv3x3(X, W, dtype="tf32", **on)
    assert ops.conv3x3(X, packed, **on).tobytes() == y.tobytes()  # packed for it
    with pytest.raises(TypeError, match="w: expected weights packed as float32, got tf32"):
        ops.conv3x3(X, packed, dtype="float32", **on)
    with pytest.raises(TypeError, match="w: expected weights packed as float16, got tf32"):
        ops.conv3x3(X.astype(np.float16), packed, **on)
    pixels = np.zeros((1, 4, 4, 3), np.uint8)
    first = ops.pack_conv3x3(get_backend("emulator"), W[..., :3], None, dtype="tf32")
    assert ops.conv3x3(pixels, first, **on).dtype == np.float32
    out = np.empty((2, 6, 4, 5), np.float16)
    with pytest.raises(TypeError, match="out: expected dtype float32, got float16"):
        ops.conv3x3(X, W, dtype="tf32", out=out, **on)


BAD_OPTIONS: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"workers": "2"}, TypeError, "workers: expected an integer >= 0 and <= 4096, got '2'"),
    ({"workers": 2.5}, TypeError, "workers: expected an integer >= 0 and <= 4096, got 2.5"),
    ({"workers": 2**33}, ValueError, "workers: expected an integer >= 0 and <= 4096, got 858"),
    ({"workers": True}, TypeError, "workers: expected an integer"),
    ({"seed": 2**40}, ValueError, "seed: expected an integer >= 0 and <= 4294967295, got 109"),
    ({"seed": -1}, ValueError, "seed: expected an integer >= 0"),
    ({"lazy": 3}, TypeError, "lazy: expected True or False, got 3"),
    ({"races": "no"}, TypeError, "races: expected True or False, got 'no'"),
    ({"instruction_limit": 0}, ValueError, "instruction_limit: expected an integer >= 1"),
    ({"schedule": 3}, ValueError, "schedule: expected one of forward"),
]


@pytest.mark.parametrize(("given", "error", "text"), BAD_OPTIONS, ids=str)
def test_emulator_options_are_checked_on_creation(
    given: dict[str, Any], error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text):
        ops.emulator_options(**given)  # no "with"


@pytest.mark.emulator
def test_instruction_limit_stops_launch() -> None:
    from vgg_cuda import _C

    with (
        ops.emulator_options(instruction_limit=1),
        pytest.raises(_C.EmulatorError, match="instruction"),
    ):
        ops.relu(X, device="emulator")


# ---- Memory ----


@pytest.mark.emulator
def test_oversized_result_raises_memory_error(monkeypatch: pytest.MonkeyPatch) -> None:
    backend = get_backend("emulator")
    monkeypatch.setattr(type(backend), "free_bytes", lambda self, needed: 4_100_000_000)
    x = np.broadcast_to(np.zeros((1, 1, 1, 1), np.float16), (300, 224, 224, 1))
    x = x.copy()
    expected = (
        r"conv3x3: needs 12\.3 GB for its result \[300, 224, 224, 408\] of float16, "
        r"4\.1 GB are free on emulator; smaller batches need less"
    )
    with pytest.raises(MemoryError, match=expected):
        ops.conv3x3(x, draw(408, 3, 3, 1), device="emulator")
    assert ops.relu(X, device="emulator").shape == X.shape  # what fits runs
    monkeypatch.setattr(type(backend), "free_bytes", lambda self, needed: 20)
    with pytest.raises(MemoryError, match=r"softmax: needs 84 bytes for its result \[3, 7\]"):
        ops.softmax(draw(3, 7), device="emulator")
    with pytest.raises(MemoryError, match=r"960 bytes for its result \[2, 6, 4, 5\] of float32"):
        ops.conv3x3(X, W, dtype="tf32", device="emulator")


def test_emulator_reports_free_bytes() -> None:
    if why_missing("emulator") is None:
        backend: Any = get_backend("emulator")
        assert backend.free_bytes(1) is None
        assert backend.free_bytes(1 << 30) > 1 << 20


def test_format_bytes() -> None:
    assert [format_bytes(n) for n in (12, 3_400_000, 12_345_678_901)] == [
        "12 bytes", "3.4 MB", "12.3 GB",
    ]  # fmt: skip
