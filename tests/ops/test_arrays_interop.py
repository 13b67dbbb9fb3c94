"""Arrays of other libraries: DLPack versions, lifetimes and read-only memory."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from support.call_cases import OPS, X, draw

from vgg_cuda import ops

VERSIONED = np.lib.NumpyVersion(np.__version__) >= "2.1.0"  # NumPy's DLPack is 1.0


class Foreign:
    """An array that supports only DLPack; ``takes`` names the keywords of ``__dlpack__``."""

    def __init__(self, array: Any, device_type: int = 1, takes: tuple[str, ...] = ()) -> None:
        self.array = np.asarray(array)
        self.shape, self.dtype = self.array.shape, self.array.dtype
        self._device_type, self._takes = device_type, takes

    def __dlpack_device__(self) -> tuple[int, int]:
        return self._device_type, 0

    def __dlpack__(self, **kwargs: Any) -> Any:
        if unknown := set(kwargs) - {"stream", *self._takes}:
            raise TypeError(f"__dlpack__() got unexpected keyword arguments {unknown}")
        assert kwargs.get("stream") is None, "the CPU has no streams"
        return self.array.__dlpack__(**kwargs)

    def __array_namespace__(self) -> Any:
        def from_dlpack(y: Any) -> Foreign:
            return Foreign(np.from_dlpack(y), self._device_type, self._takes)

        return SimpleNamespace(from_dlpack=from_dlpack, __name__="foreign")


NEW = ("max_version", "dl_device", "copy")


# ---- DLPack, old and new ----


@pytest.mark.parametrize("takes", [(), pytest.param(NEW, marks=pytest.mark.skipif(not VERSIONED,
                         reason="NumPy's DLPack is older"))], ids=["0.8", "1.0"])  # fmt: skip
@pytest.mark.parametrize("device_type", [1, 3], ids=["host", "pinned"])
def test_dlpack_versions(device: str, device_type: int, takes: tuple[str, ...]) -> None:
    for op, x in OPS.values():
        y = op(Foreign(x, device_type, takes), device=device)
        assert isinstance(y, Foreign)
        np.testing.assert_array_equal(y.array, op(x, device=device))


@pytest.mark.parametrize("device_type", [4, 7, 8, 10, 14])
def test_unknown_dlpack_device_is_rejected(device_type: int) -> None:
    with pytest.raises(
        TypeError, match=f"relu: x: expected .* got DLPack device type {device_type}"
    ):
        ops.relu(Foreign(X, device_type))


@pytest.mark.parametrize("error", [AttributeError, KeyError, NotImplementedError, AssertionError])
@pytest.mark.parametrize("method", ["__dlpack__", "__dlpack_device__"])
def test_foreign_errors_become_type_errors(method: str, error: type[Exception]) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise error("not today")

    x = type("Failing", (Foreign,), {method: fail})(X)
    with pytest.raises(TypeError, match=r"relu: x: cannot share .*Failing of dtype.*not today"):
        ops.relu(x)
    with pytest.raises(TypeError, match="linear: bias: cannot share"):
        ops.linear(draw(2, 8), draw(3, 8), x)


def test_objects_with_failing_properties_are_rejected() -> None:
    class Broken:
        @property
        def shape(self) -> Any:
            raise RuntimeError("no shape")

        def __array_namespace__(self) -> Any:
            raise NotImplementedError

    for x in (Broken(), torch.Tensor, np.ndarray):
        with pytest.raises(
            TypeError, match=r"relu: x: expected an array .*got .*(Broken|type|Meta)"
        ):
            ops.relu(x)


@pytest.mark.parametrize("dtype", ["int32", "uint8", "bool", "complex64", "float64"])
def test_foreign_array_with_bad_dtype_is_rejected(dtype: str) -> None:
    with pytest.raises(TypeError, match=rf"relu: x: expected .*{dtype}"):
        ops.relu(Foreign(X.astype(dtype)))


def test_scalar_and_empty_arrays(device: str) -> None:
    for value in (-2.5, 3.0):
        point = np.array(value, np.float32)
        for x in (point, torch.tensor(value), Foreign(point)):
            y = ops.relu(x, device=device)
            assert type(y) is type(x)
            assert y.shape == ()
            assert float(getattr(y, "array", y)) == max(value, 0)
    for shape in ((0,), (0, 4), (2, 0, 3)):
        for x in (np.zeros(shape, np.float32), torch.zeros(shape), Foreign(np.zeros(shape, "f4"))):
            y = ops.relu(x, device=device)
            assert type(y) is type(x)
            assert y.shape == shape


def test_strides_and_offsets(device: str) -> None:
    whole = draw(6, 8, 10)
    for part in (whole[1:, ::-2, 3:], whole.T, whole[::-1, ::-1, ::-1], whole[:, 2:3]):
        expected = ops.relu(np.ascontiguousarray(part), device=device)
        np.testing.assert_array_equal(ops.relu(Foreign(part), device=device).array, expected)
    strided = torch.from_numpy(whole)[1:, ::2, 3:].permute(2, 0, 1)
    y = ops.relu(strided, device=device)
    assert y.is_contiguous()
    assert torch.equal(y, strided.relu())
    expanded = torch.ones(1, 4).expand(3, 4)
    assert torch.equal(ops.relu(expanded, device=device), expanded)


# ---- Lifetimes ----


def test_result_outlives_input(device: str) -> None:
    makers: list[Callable[[], Any]] = [
        lambda: torch.from_numpy(X.copy()),
        lambda: Foreign(X.copy()),
    ]
    for make in makers:
        x = make()
        owner = weakref.ref(x)
        y = ops.maxpool2x2(x, device=device)
        del x
        gc.collect()
        assert owner() is None, "something holds the input"
        for _ in range(4):  # likely reuses and overwrites freed memory
            np.full(X.shape, np.nan, np.float32)
        expected = ops.maxpool2x2(X, device=device)
        np.testing.assert_array_equal(getattr(y, "array", y), expected)


def test_results_in_use_are_not_reused() -> None:
    """The CPU backend reuses large buffers, but not while another library has a view."""
    x, w = draw(1, 64, 80, 64), draw(64, 3, 3, 64, seed=1)
    expected = ops.conv3x3(x, w)
    assert expected.nbytes > 1 << 20
    kept = [ops.conv3x3(torch.from_numpy(x), w)[0].numpy(), ops.conv3x3(Foreign(x), w).array[0]]
    gc.collect()
    for _ in range(3):
        ops.conv3x3(x + 1, w)
    for y in kept:
        np.testing.assert_array_equal(y, expected[0])


def test_memory_mapped_files(device: str, tmp_path: Path) -> None:
    path = tmp_path / "x.npy"
    np.save(path, X)
    for mode in ("r", "r+", "c"):
        mapped = np.load(path, mmap_mode=mode)
        y = ops.maxpool2x2(mapped, device=device)
        assert type(y) is np.ndarray
        np.testing.assert_array_equal(y, ops.maxpool2x2(X, device=device))
    out = np.lib.format.open_memmap(tmp_path / "y.npy", "w+", np.float32, X.shape)
    assert ops.relu(X, out=out, device=device) is out
    out.flush()
    np.testing.assert_array_equal(np.load(tmp_path / "y.npy"), np.maximum(X, 0))
    with pytest.raises(ValueError, match="out: expected a writable array"):
        ops.relu(X, out=np.load(path, mmap_mode="r"), device=device)


# ---- out ----


def frozen(x: np.ndarray) -> np.ndarray:
    x = x.copy()
    x.flags.writeable = False
    return x


@pytest.mark.skipif(not VERSIONED, reason="NumPy's DLPack cannot say that memory is read-only")
def test_out_from_foreign_library(device: str) -> None:
    x, out = Foreign(X, takes=NEW), Foreign(np.zeros_like(X), takes=NEW)
    assert ops.relu(x, out=out, device=device) is out
    np.testing.assert_array_equal(out.array, np.maximum(X, 0))
    np.testing.assert_array_equal(
        ops.relu(Foreign(frozen(X), takes=NEW), device=device).array, np.maximum(X, 0)
    )
    for kept in (Foreign(frozen(X), takes=NEW), Foreign(X.copy())):  # old DLPack has no flag
        with pytest.raises(ValueError, match="out: expected a writable array, got a read-only one"):
            ops.relu(x, out=kept, device=device)
        np.testing.assert_array_equal(kept.array, X)


def test_out_of_subclass_or_base(device: str) -> None:
    class Rows(np.ndarray):
        pass

    class Picture(torch.Tensor):
        pass

    tensor = torch.from_numpy(X)
    pairs: list[tuple[Any, Any]] = [
        (X.view(Rows), np.zeros_like(X)), (X, np.zeros_like(X).view(Rows)),
        (tensor.as_subclass(Picture), torch.zeros(X.shape)),
        (tensor, torch.zeros(X.shape).as_subclass(Picture)),
    ]  # fmt: skip
    for x, out in pairs:
        assert ops.relu(x, out=out, device=device) is out
        np.testing.assert_array_equal(np.asarray(out), np.maximum(X, 0))
    for x, out in ((X, torch.zeros(X.shape)), (tensor, np.zeros_like(X)), (X, Foreign(X))):
        with pytest.raises(TypeError, match="out: expected an array like x"):
            ops.relu(x, out=out, device=device)


def test_out_with_lazy_negation_is_rejected(device: str) -> None:
    """Results would be written to a copy and lost."""
    other = torch.zeros(X.shape)
    with pytest.raises(ValueError, match="out: expected a tensor without PyTorch's lazy negation"):
        ops.relu(torch.from_numpy(X), out=torch._neg_view(other), device=device)
    assert not other.any()
