"""The compiled module: queries, and checks of arrays before any launch."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vgg_cuda
from vgg_cuda import _C
from vgg_cuda.backends import cuda

NO_GPU = not _C.device_info()["available"]


class FakeArray:
    """An interface without memory; a launch with it must fail a check."""

    def __init__(self, *shape: int, typestr: str = "<f4", **interface: Any) -> None:
        self.__cuda_array_interface__ = {
            "shape": shape,
            "typestr": typestr,
            "data": (4096, False),
            "strides": None,
            "version": 3,
            **interface,
        }


SM80 = _C.arch("sm_80")


@pytest.mark.emulator
def test_emulator_modules_are_in_the_build() -> None:
    assert _C.emulator_modules().keys() >= {"sm80/gemm_f16", "smxx/softmax"}


def conv3x3(
    *, pool: bool = False, aligned: bool = True, shape: Any = (2, 8, 6, 8), **given: Any
) -> None:
    plan = _C.plan_conv3x3(
        *shape, 64, dtype="float32", x_dtype="float32", relu=True, pool=pool, aligned=aligned,
        arch=SM80,
    )  # fmt: skip
    defaults = {
        "x": FakeArray(*shape),
        "w": FakeArray(64, 72),
        "bias": FakeArray(64),
        "out": FakeArray(2, 8, 6, 64),
        "workspace": FakeArray(plan.workspace_bytes, typestr="|u1"),
    }
    arguments = {**defaults, **given}
    normalize = arguments.pop("normalize", None)
    _C.conv3x3(plan, *arguments.values(), _C.Cuda(0), normalize=normalize)


def linear(dtype: str = "float32", **given: Any) -> None:
    plan = _C.plan_linear(2, 10, 5, dtype=dtype, relu=False, aligned=True, arch=SM80)
    typestr = {"float16": "<f2", "bfloat16": "<V2"}.get(dtype, "<f4")
    columns = _C.packed_columns(10, dtype)
    defaults = {
        "x": FakeArray(2, 10, typestr=typestr),
        "w": FakeArray(5, columns, typestr=typestr),
        "bias": FakeArray(8),
        "out": FakeArray(2, 5, typestr=typestr),
        "workspace": FakeArray(plan.workspace_bytes, typestr="|u1"),
    }
    _C.linear(plan, *{**defaults, **given}.values(), _C.Cuda(0))


# ---- Queries ----


def test_commit_is_a_hash() -> None:
    assert re.fullmatch(r"[0-9a-f]{40}(-dirty)?|unknown|[\w.+-]+", _C.commit())


def test_architectures_of_build() -> None:
    if _C.built_with_cuda():
        assert re.fullmatch(r"\d+\.\d+", _C.cuda_version() or "")
        architectures = _C.architectures()
        assert {"sm_80", "sm_90", "compute_80"} <= set(architectures)
        assert all(re.fullmatch(r"(sm|compute)_\d+[af]?", name) for name in architectures)
        assert len(set(architectures)) == len(architectures)
    else:
        assert _C.cuda_version() is None
        assert _C.architectures() == []


def test_device_info() -> None:
    info = _C.device_info()
    assert set(info) == {"available", "reason", "driver", "devices"}
    assert info["available"] == (info["reason"] is None) == bool(info["devices"])
    for index, device in enumerate(info["devices"]):
        assert device["index"] == index
        assert device["name"]
        assert device["compute_capability"] >= (5, 0)
        assert device["memory_bytes"] > 2**28
        assert device["sm_count"] > 0


@pytest.mark.skipif(not NO_GPU, reason="there is a GPU")
def test_device_info_gives_reason() -> None:
    reason = _C.device_info()["reason"]
    if not _C.built_with_cuda():
        assert reason == "built without CUDA: reinstall without VGG_CUDA_TOOLKIT=none"
    else:
        assert reason is not None
        assert re.match("no NVIDIA driver$|NVIDIA driver supports|no CUDA device|cudaError", reason)
        assert (_C.device_info()["driver"] is None) == (reason == "no NVIDIA driver")


# ---- Kinds and dtypes: TypeError ----


@pytest.mark.parametrize(
    ("value", "kind"), [(np.zeros((2, 8, 6, 8)), "numpy.ndarray"), ([1.0], "list"), (None, "None")]
)
def test_other_array_kinds_are_rejected(value: Any, kind: str) -> None:
    with pytest.raises(TypeError, match=rf"conv3x3: x: expected an array in GPU.*got {kind}"):
        conv3x3(x=value)


@pytest.mark.parametrize("typestr", ["<f8", "<i4", ">f4", "<c8", "|b1", "|V4"])
def test_other_dtypes_are_rejected(typestr: str) -> None:
    message = rf"conv3x3: x: expected float32, got typestr '{re.escape(typestr)}'"
    with pytest.raises(TypeError, match=message):
        conv3x3(x=FakeArray(2, 8, 6, 8, typestr=typestr))


def test_dtypes_must_match_plan() -> None:
    with pytest.raises(TypeError, match=r"conv3x3: w: expected float32, got float16"):
        conv3x3(w=FakeArray(64, 72, typestr="<f2"))
    with pytest.raises(TypeError, match=r"conv3x3: out: expected float32, got bfloat16"):
        conv3x3(out=FakeArray(2, 8, 6, 64, typestr="<V2"))
    with pytest.raises(TypeError, match=r"linear: bias: expected float32, got float16"):
        linear(bias=FakeArray(8, typestr="<f2"))
    with pytest.raises(TypeError, match=r"conv3x3: x: expected float32, got uint8"):
        conv3x3(x=FakeArray(2, 8, 6, 8, typestr="|u1"))
    for given in ("x", "out"):
        with pytest.raises(TypeError, match=rf"linear: {given}: expected float32, got float16"):
            linear("tf32", **{given: FakeArray(2, {"x": 10, "out": 5}[given], typestr="<f2")})


@pytest.mark.parametrize("typestr", ["<V2", "|V2", "<u2"])
def test_bfloat16_typestrs(typestr: str) -> None:
    with pytest.raises(ValueError, match=r"linear: x: expected \[2, 10\] \(NC\)"):
        linear("bfloat16", x=FakeArray(2, 11, typestr=typestr))
    with pytest.raises(TypeError, match=r"linear: x: expected bfloat16, got float16"):
        linear("bfloat16", x=FakeArray(2, 10, typestr="<f2"))
    with pytest.raises(TypeError, match=r"linear: x: expected float16, got"):
        linear("float16", x=FakeArray(2, 10, typestr=typestr))


def test_plan_rejects_other_dtypes() -> None:
    with pytest.raises(TypeError, match=r"relu: dtype: expected float32, float16.*got float64"):
        _C.plan_relu(3, dtype="float64", aligned=True, arch=SM80)
    with pytest.raises(TypeError, match=r"relu: dtype: expected float32, float16.*got uint8"):
        _C.plan_relu(3, dtype="uint8", aligned=True, arch=SM80)


def test_masked_arrays_are_rejected() -> None:
    with pytest.raises(TypeError, match="linear: x: expected an array without a mask"):
        linear(x=FakeArray(2, 10, mask=FakeArray(2, 10)))


# ---- Shapes and layout: ValueError ----


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"w": FakeArray(64, 73)}, "w: expected [64, 72] (packed), got (64, 73)"),
        ({"w": FakeArray(64, 3, 3, 8)}, "w: expected [64, 72] (packed), got (64, 3, 3, 8)"),
        ({"x": FakeArray(8, 6, 8)}, "x: expected [2, 8, 6, 8] (NHWC), got (8, 6, 8)"),
        ({"bias": FakeArray(63)}, "bias: expected [64] (packed), got (63,)"),
        ({"out": FakeArray(2, 64, 8, 6)}, "out: expected [2, 8, 6, 64] (NPQK), got (2, 64, 8, 6)"),
        ({"pool": True}, "out: expected [2, 4, 3, 64] (NPQK), got (2, 8, 6, 64)"),
        ({"out": FakeArray(2, 8, 6, 64, data=(4096, True))}, "out: expected a writable array"),
        ({"x": FakeArray(2, 8, 6, 8, data=(0, False))}, "x: expected a data pointer, got null"),
        ({"x": FakeArray(2, 8, 6, 8, data=(4098, False))}, "x: expected an address that"),
        ({"x": FakeArray(2, 8, 6, 8, data=(4100, False))}, "x: expected an address that is a mult"),
        (
            {"w": FakeArray(64, 72, data=(4100, False)), "aligned": False},
            "w: expected an address that is a multiple of 16",
        ),
        (
            {"normalize": ((1.0, 1.0, 1.0), (0.0, 0.0, 0.0), False)},
            "normalize: expected None unless C = 3",
        ),
    ],
)
def test_conv3x3_rejects_bad_arrays(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(f"conv3x3: {message}")):
        conv3x3(**arguments)


def test_linear_rejects_bad_workspace() -> None:
    plan = _C.plan_linear(1, 25088, 64, dtype="float16", relu=False, aligned=True, arch=SM80)
    assert plan.workspace_bytes > 0
    arrays = [
        FakeArray(*shape, typestr="<f2") for shape in ((1, 25088), (64, 25088), (64,), (1, 64))
    ]
    arrays[2] = FakeArray(64)
    for workspace in (
        FakeArray(plan.workspace_bytes - 1, typestr="|u1"),
        FakeArray(plan.workspace_bytes),
        FakeArray(plan.workspace_bytes, typestr="|u1", data=(4096, True)),
    ):
        message = f"linear: workspace: expected a writable uint8 array of .* {plan.workspace_bytes}"
        with pytest.raises(ValueError, match=message):
            _C.linear(plan, *arrays, workspace, _C.Cuda(0))


def test_linear_rejects_bad_arrays() -> None:
    for arguments, message in (
        ({"w": FakeArray(5, 11)}, r"w: expected \[5, 12\] \(packed\), got \(5, 11\)"),
        ({"x": FakeArray(2, 10, 1)}, r"x: expected \[2, 10\] \(NC\), got \(2, 10, 1\)"),
        ({"out": FakeArray(2, 6)}, r"out: expected \[2, 5\] \(NK\), got \(2, 6\)"),
    ):
        with pytest.raises(ValueError, match=f"linear: {message}"):
            linear(**arguments)


def test_other_operations_reject_bad_arrays() -> None:
    x, on = FakeArray(2, 7, 5, 3), _C.Cuda(0)
    known: dict[str, Any] = {"dtype": "float32", "aligned": True, "arch": SM80}
    plan = _C.plan_maxpool2x2(2, 7, 5, 3, **known)
    with pytest.raises(ValueError, match=r"maxpool2x2: out: expected \[2, 3, 2, 3\] \(NPQC\)"):
        _C.maxpool2x2(plan, x, FakeArray(2, 4, 3, 3), on)
    plan = _C.plan_avgpool(2, 7, 5, 3, 7, **known)
    with pytest.raises(ValueError, match=r"avgpool: out: expected \[2, 7, 7, 3\]"):
        _C.avgpool(plan, x, FakeArray(2, 7, 6, 3), on)
    plan = _C.plan_adaptive_maxpool(2, 7, 5, 3, 1, **known)
    with pytest.raises(ValueError, match=r"adaptive_maxpool: out: expected \[2, 1, 1, 3\]"):
        _C.adaptive_maxpool(plan, x, FakeArray(2, 3), on)
    with pytest.raises(ValueError, match=r"avgpool: plan: expected .* avgpool, got .* adap"):
        _C.avgpool(plan, x, FakeArray(2, 1, 1, 3), on)
    plan = _C.plan_softmax(2, 9, **known)
    with pytest.raises(ValueError, match=r"softmax: out: expected \[2, 9\] \(rows, n\), got"):
        _C.softmax(plan, FakeArray(2, 9), FakeArray(9, 2), on)
    plan = _C.plan_relu(210, **known)
    with pytest.raises(ValueError, match="relu: out: expected 210 elements, got"):
        _C.relu(plan, x, FakeArray(2, 7, 14), on)
    plan, part = _C.plan_affine(2, 7, 5, 3, **known), FakeArray(8)
    with pytest.raises(ValueError, match="affine: out: expected 210 elements, got"):
        _C.affine(plan, x, part, part, FakeArray(2, 7, 14), on)
    with pytest.raises(ValueError, match=r"affine: shift: expected \[8\] \(packed\), got \(3,\)"):
        _C.affine(plan, x, part, FakeArray(3), x, on)
    plan = _C.plan_convert(2, 3, 35, x_dtype="uint8", dtype="float32", arch=SM80)
    with pytest.raises(TypeError, match="convert: x: expected uint8, got float32"):
        _C.convert(plan, x, x, on)
    with pytest.raises(ValueError, match=r"relu: plan: expected .* relu, got .* convert"):
        _C.relu(plan, x, x, on)


def test_strided_arrays_are_rejected() -> None:
    for strides in [(1536, 192, 32, 8), (4, 4, 4, 4), (-1536, 192, 32, 4), (1536, 192, 32)]:
        with pytest.raises(ValueError, match=r"conv3x3: x: expected a C-contiguous array, got str"):
            conv3x3(x=FakeArray(2, 8, 6, 8, strides=strides))
    # Dense strides pass, as do any strides of length-1 axes; a later check fails instead.
    for shape, strides in [((2, 10), (40, 4)), ((1, 10), (999, 4))]:
        plan = _C.plan_softmax(*shape, dtype="float32", aligned=True, arch=SM80)
        with pytest.raises(ValueError, match="softmax: out"):
            _C.softmax(plan, FakeArray(*shape, strides=strides), FakeArray(3, 10), _C.Cuda(0))


# ---- Launches ----


@pytest.mark.skipif(not NO_GPU, reason="there is a GPU: the fake pointers would be followed")
def test_launch_without_gpu_raises() -> None:
    message = "conv3x3.*: cudaError" if _C.built_with_cuda() else "built without CUDA: reinstall"
    for _ in range(2):  # the error does not stick
        with pytest.raises(RuntimeError, match=message):
            conv3x3()


# ---- Reasons of an unavailable backend ----


def machine(monkeypatch: pytest.MonkeyPatch, *, cupy: bool, **info: Any) -> None:
    monkeypatch.setattr(cuda._C, "device_info", lambda: info)
    monkeypatch.setitem(sys.modules, "cupy", type(sys)("cupy") if cupy else None)


def device(name: str, *compute_capability: int) -> dict[str, Any]:
    return {"name": name, "compute_capability": compute_capability}


@pytest.mark.parametrize("cupy", [True, False])
@pytest.mark.parametrize(
    "reason",
    [
        "no NVIDIA driver",
        "built without CUDA: reinstall without VGG_CUDA_TOOLKIT=none",
        "NVIDIA driver supports CUDA 12.4; this build needs 13.0 (driver >= 580)",
        "no CUDA device is visible",
    ],
)
def test_missing_driver_is_reported_first(
    monkeypatch: pytest.MonkeyPatch, reason: str, cupy: bool
) -> None:
    machine(monkeypatch, cupy=cupy, available=False, reason=reason, devices=[])
    assert cuda.why_unavailable() == reason
    with pytest.raises(RuntimeError, match=re.escape(reason)):
        cuda.CudaBackend()


@pytest.mark.parametrize("cupy", [True, False])
def test_unsuitable_gpu_is_reported_second(monkeypatch: pytest.MonkeyPatch, cupy: bool) -> None:
    devices = [device("H200", 9, 0), device("V100", 7, 0)]
    machine(monkeypatch, cupy=cupy, available=True, reason=None, devices=devices)
    assert cuda.why_unavailable(1) == "GPU V100 is sm_70; vgg_cuda needs sm_80 or later"
    assert cuda.why_unavailable(2) == "no GPU 2: 2 are visible"


def test_missing_cupy_is_reported_last(monkeypatch: pytest.MonkeyPatch) -> None:
    info = {"available": True, "reason": None, "devices": [device("A100", 8, 0)]}
    machine(monkeypatch, cupy=False, **info)
    assert (
        cuda.why_unavailable()
        == 'CuPy is not installed: pip install ".[cuda13]" in a clone of vgg_cuda'
    )
    machine(monkeypatch, cupy=True, **info)
    assert cuda.why_unavailable() is None


def test_source_folder_computes_on_cpu(tmp_path: Path) -> None:
    """A Python started in a clone finds the sources before the installed package."""
    if any(type(finder).__name__.startswith("ScikitBuild") for finder in sys.meta_path):
        pytest.skip("an editable install is found before any folder")
    package = Path(vgg_cuda.__file__).parent
    shutil.copytree(package, tmp_path / "vgg_cuda", ignore=shutil.ignore_patterns("_C*", "__pyc*"))
    program = """
import vgg_cuda
from vgg_cuda.backends import DeviceError
assert vgg_cuda.VGG.load("digits").device == "cpu"
for device in ("cuda", "emulator"):
    try:
        vgg_cuda.VGG.load("digits", device=device)
    except DeviceError as error:
        print(error)
"""
    lines = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, check=True, capture_output=True, text=True
    ).stdout.splitlines()
    assert len(lines) == 2
    assert all("is a folder of sources without the compiled extension" in line for line in lines)
    info = subprocess.run(
        [sys.executable, "-m", "vgg_cuda", "info"], cwd=tmp_path, capture_output=True, text=True
    )
    assert info.returncode == 2
    assert "Traceback" not in info.stderr
    assert "is a folder of sources" in info.stderr
