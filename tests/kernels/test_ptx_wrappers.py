"""The wrappers of csrc/ptx/, one kernel each: the emulator against NumPy, a GPU against both."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.kernel_reference import assert_same_bits
from support.ptx_wrappers import (
    CSRC,
    MODULES,
    SM90,
    WRAPPERS,
    Wrapper,
    entries,
    on_emulator,
    on_gpu,
    ptx,
    sources,
)

from vgg_cuda import _C

pytestmark = pytest.mark.emulator

NAMES = [f"{wrapper.kernel}-{i}" for i, wrapper in enumerate(WRAPPERS)]
each = pytest.mark.parametrize("wrapper", WRAPPERS, ids=NAMES)


def test_wrappers_have_kernels_and_entries() -> None:
    functions = set().union(*sources().values())
    every: set[str] = set()
    for module in MODULES:
        entered = [wrapper for wrapper in WRAPPERS if wrapper.module == module]
        covered = {name for wrapper in entered for name in wrapper.covers}
        assert covered - functions == set(), "no such function in csrc/ptx/"
        assert {wrapper.kernel for wrapper in entered} == entries(module)
        text = re.sub(r"//[^\n]*", "", (CSRC / f"{module}.cu").read_text())
        called = set(re.findall(r"ptx::(\w+)(?:<[^<>()]*>)?\(", text))
        assert called == {name.partition("<")[0] for name in covered}, f"what {module}.cu calls"
        every |= covered
    where = "csrc/ptx/test_kernels*.cu and tests/support/ptx_wrappers/"
    assert functions - every == set(), f"add a kernel of each to {where}"


def test_wrapper_without_kernel_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "ptx").mkdir()
    (tmp_path / "ptx" / "more.cuh").write_text(
        "// __device__ void comment();\ntemplate <class T>\n__device__ __forceinline__ T\n"
        "general(T x);\ntemplate <>\n__device__ __forceinline__ int general<int>(int x) { f(x); }\n"
        "__device__ __forceinline__ const float* one(float (&acc)[4]) { return acc; }\n"
    )
    monkeypatch.setattr("support.ptx_wrappers.wrapper.CSRC", tmp_path)
    assert sources() == {"more.cuh": {"general<int>", "one"}}


def assert_right(y: np.ndarray, wrapper: Wrapper, inputs: dict[str, np.ndarray], what: str) -> None:
    """Compare bits or errors; any NaN is right in a product, as PTX leaves its bits open."""
    expected = wrapper.expected(**inputs)
    if wrapper.bound is None:
        if wrapper.kernel.startswith(("ptx_mma", "ptx_wgmma")):
            y, expected = (np.where(np.isnan(x), np.float32(np.nan), x) for x in (y, expected))
        assert_same_bits(y, expected, what)
        return
    used = np.abs(y - expected) / wrapper.bound(**inputs)
    assert used.max() <= 1, f"{what}: {used.max():.2f} of the bound"


@each
def test_wrapper_on_the_emulator(wrapper: Wrapper) -> None:
    inputs = wrapper.arrays()
    assert_right(on_emulator(wrapper, inputs), wrapper, inputs, "emulator")


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Any]:
    """Compile a module of the emulator's PTX, by name, with this GPU's driver."""
    import cupy

    @cache
    def compiled(module: str) -> Any:
        path = tmp_path_factory.mktemp("ptx") / "module.ptx"
        path.write_text(ptx(module))
        return cupy.RawModule(path=str(path))

    return compiled


@each
@pytest.mark.gpu
def test_wrapper_on_a_gpu(wrapper: Wrapper, compiled: Callable[[str], Any]) -> None:
    """A GPU gives the emulator's bits; rounded sums of both are within the bound."""
    capability = _C.device_info()["devices"][0]["compute_capability"]
    if wrapper.module == SM90 and capability != (9, 0):
        pytest.skip(f"for compute capability 9.0, this GPU has {capability}")
    inputs = wrapper.arrays()
    y = on_gpu(wrapper, inputs, compiled(wrapper.module))
    assert_right(y, wrapper, inputs, "GPU")
    if wrapper.bound is None:
        assert_right(on_emulator(wrapper, inputs), wrapper, inputs, "emulator")
