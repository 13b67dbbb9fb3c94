"""Operations whose kernel the driver of a fake GPU refuses: others compute the same results."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import numpy as np
import pytest
from support.fake_cupy import Log, asarray
from support.kernel_reference import draw
from support.refused_kernels import (
    Without,
    bits,
    families_in_turn,
    refusals,
    refuse,
    reported,
    run_without,
    two_gpus,
)

from vgg_cuda import _C, backends, ops
from vgg_cuda.backends import KernelError, get_backend

pytestmark = pytest.mark.emulator

X = draw((3, 8, 8, 3), "float16")


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> Iterator[Log]:
    yield from two_gpus(monkeypatch)


@pytest.fixture
def without(log: Log, monkeypatch: pytest.MonkeyPatch) -> Without:
    return run_without(monkeypatch)


def eager() -> list[bytes]:
    """Return the results of operations with kernels of all families."""
    w = [draw((k, 3, 3, c), "float16", 0.1, seed=k) for c, k in ((3, 64), (64, 64), (64, 128))]
    x, y = asarray(X), asarray(draw((2, 8, 8, 128), "float16"))
    found = [
        ops.fused_conv1_block(x, w[0], None, w[1], None),
        ops.conv3x3(ops.conv3x3(x, w[0]), w[2], relu=True, pool=True),
        ops.conv3x3(y, draw((128, 3, 3, 128), "float16", 0.1)),  # a split sum
        ops.linear(asarray(draw((5, 96), "float16")), draw((40, 96), "float16", 0.1)),
    ]
    assert bits(x) == X.tobytes()
    return [bits(y) for y in found]


@families_in_turn
def test_operations_are_planned_again(log: Log, without: Without, names: tuple[str, ...]) -> None:
    expected = without(names, eager)
    refuse(log, names)
    with refusals(names) as found:
        assert eager() == expected
    assert reported(found) == sorted(names)
    count = len(log.refused)
    assert count == len(names)
    assert eager() == expected
    assert len(log.refused) == count
    assert sorted(get_backend("cuda:0").families_off) == sorted(names)  # type: ignore[attr-defined]


def test_out_is_written_after_a_refusal(log: Log, without: Without) -> None:
    y, w = asarray(draw((2, 8, 8, 128), "float16")), draw((128, 3, 3, 128), "float16", 0.1)
    expected = without(("halo",), lambda: ops.conv3x3(y, w))
    refuse(log, ("halo",))
    out = asarray(np.zeros((2, 8, 8, 128), np.float16))
    with refusals(("halo",)):
        _, stats = ops.conv3x3(y, w, out=out, return_stats=True)
    assert bits(out) == bits(expected)
    assert stats["plan"]["family"] == "swap_ab"


def test_refusals_concern_one_device(log: Log) -> None:
    refuse(log, ("halo",))
    others = [get_backend("cuda:0", "sm_90a"), get_backend("cuda:1"), get_backend("emulator")]
    before: Any = get_backend("cuda:0")
    planner = before.plan
    with refusals(("halo",)):
        eager()
    assert before.plan is not planner
    assert before.families_off["halo"].startswith("refused by the driver: conv3x3_f16_halo_")
    assert [list(on.families_off) for on in others] == [["halo"], [], []]  # type: ignore[attr-defined]
    backends._cuda.cache_clear()
    assert list(get_backend("cuda:0").families_off) == ["halo"]  # type: ignore[attr-defined]


def test_portable_kernels_have_no_replacement(log: Log) -> None:
    log.refuses = lambda plan: True
    with pytest.raises(KernelError) as caught:
        ops.relu(asarray(X))
    assert str(caught.value) == (
        "cuda:0 refused relu_f16_v8, planned for sm_90a (relu_f16_v8: cudaErrorInvalidValue: "
        "invalid argument); environment variables that select other launches: "
        "VGG_CUDA_ARCH=sm_80, VGG_CUDA_PDL=0"
    )
    log.refuses = lambda plan: False
    assert ops.relu(asarray(X)).shape == X.shape


def test_other_errors_name_the_switches(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(plan: _C.Plan, *_: Any, **__: Any) -> None:
        raise _C.CudaError(f"{plan.kernel}: cudaErrorNotPermitted: operation not permitted")

    monkeypatch.setattr(_C, "linear", fail)
    text = (
        r"could not run linear_f16_dense.*, planned for sm_90a \(.*NotPermitted.*\); .* launches: "
        "VGG_CUDA_DISABLE=dense, VGG_CUDA_ARCH=sm_80, VGG_CUDA_PDL=0"
    )
    with pytest.raises(KernelError, match=text):
        ops.linear(asarray(draw((5, 96), "float16")), draw((40, 96), "float16"))


def test_one_of_two_threads_warns(log: Log, without: Without) -> None:
    """Two kernels of one family are refused at the same time."""
    x, ks = asarray(draw((1, 8, 8, 64), "float16")), (64, 128)

    def run(k: int) -> bytes:
        return bits(ops.conv3x3(x, draw((k, 3, 3, 64), "float16", 0.1)))

    expected = without(("halo", "swap_ab"), lambda: list(map(run, ks)))
    both = Barrier(2)

    def refused(plan: _C.Plan) -> bool:
        if plan.family == "halo":
            both.wait(60)
        return plan.family in ("halo", "swap_ab")

    log.refuses = refused
    with refusals(("halo", "swap_ab")) as found, ThreadPoolExecutor(2) as pool:
        assert list(pool.map(run, ks)) == expected
    assert reported(found) == ["halo", "swap_ab"]
    assert len({kernel for kernel in log.refused if "halo" in kernel}) == 2
