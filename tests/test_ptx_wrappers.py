"""The wrappers of csrc/ptx/, one kernel each: the emulator against NumPy, a GPU against both."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kernel_reference import assert_same_bits
from ptx_programs import skip_without_emulator

from vgg_cuda.backends import why_missing

skip_without_emulator()

from ptx_wrappers import (  # noqa: E402
    CSRC,
    WRAPPERS,
    Wrapper,
    entries,
    on_emulator,
    on_gpu,
    ptx,
    sources,
)

NAMES = [f"{wrapper.kernel}-{i}" for i, wrapper in enumerate(WRAPPERS)]
each = pytest.mark.parametrize("wrapper", WRAPPERS, ids=NAMES)
MISSING = why_missing("cuda")


def test_every_wrapper_has_a_kernel_and_every_kernel_an_entry() -> None:
    covered = {name for wrapper in WRAPPERS for name in wrapper.covers}
    functions = set().union(*sources().values())
    where = "csrc/emulator/ptx_wrappers.cu and tests/ptx_wrappers.py"
    assert functions - covered == set(), f"add a kernel of each to {where}"
    assert covered - functions == set(), "no such function in csrc/ptx/"
    assert {wrapper.kernel for wrapper in WRAPPERS} == entries()
    text = (CSRC / "emulator" / "ptx_wrappers.cu").read_text()
    called = set(re.findall(r"ptx::(\w+)(?:<[^<>()]*>)?\(", text))
    assert called == {name.partition("<")[0] for name in functions}


def test_a_wrapper_without_a_kernel_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "ptx").mkdir()
    (tmp_path / "ptx" / "more.cuh").write_text(
        "// __device__ void comment();\ntemplate <class T>\n__device__ __forceinline__ T\n"
        "general(T x);\ntemplate <>\n__device__ __forceinline__ int general<int>(int x) { f(x); }\n"
        "__device__ __forceinline__ const float* one(float (&acc)[4]) { return acc; }\n"
    )
    monkeypatch.setattr("ptx_wrappers.CSRC", tmp_path)
    assert sources() == {"more.cuh": {"general<int>", "one"}}


def assert_right(y: np.ndarray, wrapper: Wrapper, inputs: dict[str, np.ndarray], what: str) -> None:
    """NaN is NaN in a product, whose bits PTX leaves open."""
    expected = wrapper.expected(**inputs)
    if wrapper.bound is None:
        if wrapper.kernel.startswith("ptx_mma"):
            y, expected = (np.where(np.isnan(x), np.float32(np.nan), x) for x in (y, expected))
        assert_same_bits(y, expected, what)
        return
    used = np.abs(y - expected) / wrapper.bound(**inputs)
    assert used.max() <= 1, f"{what}: {used.max():.2f} of the bound"


@each
def test_on_the_emulator(wrapper: Wrapper) -> None:
    inputs = wrapper.arrays()
    assert_right(on_emulator(wrapper, inputs), wrapper, inputs, "emulator")


@pytest.fixture(scope="module")
def module(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The emulator's PTX, as the driver compiles it for this GPU."""
    import cupy

    path = tmp_path_factory.mktemp("ptx") / "ptx_wrappers.ptx"
    path.write_text(ptx())
    return cupy.RawModule(path=str(path))


@each
@pytest.mark.gpu
@pytest.mark.skipif(MISSING is not None, reason=str(MISSING))
def test_on_a_gpu(wrapper: Wrapper, module: Any) -> None:
    """As on the emulator; of sums that are rounded, both are within the bound of the exact one."""
    inputs = wrapper.arrays()
    y = on_gpu(wrapper, inputs, module)
    assert_right(y, wrapper, inputs, "GPU")
    if wrapper.bound is None:
        assert_right(on_emulator(wrapper, inputs), wrapper, inputs, "emulator")
