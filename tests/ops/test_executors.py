"""Executors that launch nothing, and the errors of CUDA."""

from __future__ import annotations

import pytest
from support.mutants.cases import Case

from vgg_cuda import _C

CASES = (
    Case("linear", (7, 256, 136), arch="sm_90a"),
    Case("conv3x3", (1, 9, 9, 64, 64), arch="sm_90a"),
    Case("conv3x3", (2, 5, 15, 64, 128), arch="sm_90a", variant="swap_ab_rows2_c2"),
    Case("softmax", (2, 300)),
)


@pytest.mark.emulator
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_dry_emulator_runs_nothing(case: Case) -> None:
    for dry in (True, False):
        executor = _C.Emulator(dry=dry)
        case.run(executor)
        assert any(executor.counters().values()) != dry


@pytest.mark.emulator
def test_dry_emulator_reports_missing_kernels() -> None:
    """A kernel that the PTX lacks is an error before anything runs."""
    case = CASES[0]
    text = _C.emulator_modules()["sm90/dense"].replace(case.plan.kernel, "other")
    with pytest.raises(_C.EmulatorError, match=f"no kernel {case.plan.kernel}"):
        case.run(_C.Emulator(dry=True, modules={"sm90/dense": text}))


def test_refusals_and_lost_devices_are_cuda_errors() -> None:
    for kind in (_C.LaunchRefused, _C.DeviceLost):
        assert kind.__module__ == "vgg_cuda._C"
        with pytest.raises(_C.CudaError, match="reason") as caught:
            raise kind("reason")
        assert isinstance(caught.value, RuntimeError)
    assert not issubclass(_C.LaunchRefused, _C.DeviceLost)
    assert not issubclass(_C.DeviceLost, _C.LaunchRefused)


class Memory:
    """An array in GPU memory that is never accessed."""

    def __init__(self, *shape: int) -> None:
        self.__cuda_array_interface__ = {
            "shape": shape, "typestr": "<f2", "data": (1 << 20, False), "strides": None,
            "version": 3,
        }  # fmt: skip


@pytest.mark.skipif(not _C.built_with_cuda(), reason="the build has no CUDA")
@pytest.mark.skipif(_C.device_info()["driver"] is not None, reason="there is a driver")
@pytest.mark.parametrize("dry", [False, True])
def test_missing_driver_is_a_cuda_error(dry: bool) -> None:
    """The error names the kernel; it is no refusal, which would be planned again."""
    plan = _C.plan_softmax(2, 8, dtype="float16", aligned=True, arch=_C.arch("sm_80"))
    with pytest.raises(_C.CudaError, match=r"^softmax_f16_v8_t32: cuda\w+: ") as caught:
        _C.softmax(plan, Memory(2, 8), Memory(2, 8), _C.Cuda(0, dry=dry))
    assert type(caught.value) is _C.CudaError
    with pytest.raises(_C.CudaError, match="cuTensorMapEncodeTiled: no usable NVIDIA ") as caught:
        _C.gpu_tensor_map(1 << 20, "float16", (64, 8), (128,), box=(64, 8))
    assert type(caught.value) is _C.CudaError
