"""JAX arrays in, JAX arrays out. test_jax.py runs these tests in a process of their own."""

from __future__ import annotations

import gc

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.call_cases import OPS, draw
from support.kernel_reference import draw as draw_in

from vgg_cuda import VGG, ops


@pytest.fixture(params=["cpu", pytest.param("emulator", marks=pytest.mark.emulator)])
def device(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_in_and_out(device: str) -> None:
    for op, x in OPS.values():
        expected = op(x, device=device)
        y = op(jnp.asarray(x), device=device)
        assert type(y) is type(jnp.asarray(x))
        assert y.dtype == expected.dtype
        np.testing.assert_array_equal(np.asarray(y), expected)
        assert op(jnp.asarray(x[:0]), device=device).shape == (0, *expected.shape[1:])
    y = ops.linear(draw(2, 8), jnp.asarray(draw(3, 8)), jnp.ones(3), device=device)
    assert type(y) is np.ndarray
    assert float(ops.relu(jnp.float32(2), device=device)) == 2


@pytest.mark.emulator
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_in_16_bits(dtype: str) -> None:
    x, w, bias = draw(2, 6, 4, 8), draw(5, 3, 3, 8, seed=1), draw(5, seed=2)
    given = [jnp.asarray(array, dtype) for array in (x, w, bias)]
    y = ops.conv3x3(*given, relu=True, device="emulator")
    assert y.dtype == jnp.dtype(dtype)
    as_numpy = [np.asarray(array) for array in given]
    expected = ops.conv3x3(*as_numpy, relu=True, device="emulator")
    assert np.asarray(y).tobytes() == expected.tobytes()
    for there in ("cpu", "emulator"):
        low = ops.convert(jnp.asarray(x), dtype, device=there)
        assert low.dtype == jnp.dtype(dtype)
        assert np.asarray(low).tobytes() == np.asarray(given[0]).tobytes()
        assert low.tolist() == ops.convert(jnp.asarray(x), given[0].dtype, device=there).tolist()
    assert float(ops.relu(jnp.asarray(-1.5, dtype), device="emulator")) == 0


def test_dtypes_that_do_not_fit() -> None:
    x = jnp.asarray(draw(3, 4))
    with pytest.raises(TypeError, match=r"convert: jax\.numpy cannot hold .* float64: .*x64"):
        ops.convert(x, "float64")
    for dtype in ("int32", "bool", "complex64"):
        with pytest.raises(TypeError, match=rf"relu: x: expected a floating-point.*{dtype}"):
            ops.relu(x.astype(dtype))
    with pytest.raises(TypeError, match=r"relu: x: cannot share .*float8_e4m3fn"):
        ops.relu(x.astype("float8_e4m3fn"))


def test_arrays_are_never_written(device: str) -> None:
    x = jnp.asarray(draw(3, 4))
    before = np.array(x)
    for out in (x, x + 1):
        with pytest.raises(ValueError, match="out: expected a writable array, got a read-only JAX"):
            ops.relu(x, out=out, device=device)
    with pytest.raises(TypeError, match=r"out: expected an array like x, numpy\.ndarray, got jax"):
        ops.relu(before, out=x, device=device)
    np.testing.assert_array_equal(np.asarray(x), before)


def test_arrays_without_memory() -> None:
    with pytest.raises(TypeError, match=r"relu: x: cannot share .*Tracer"):
        jax.jit(ops.relu)(jnp.ones(3))
    gone = jnp.ones(3) + 1
    gone.delete()
    with pytest.raises(TypeError, match="relu: x: "):
        ops.relu(gone)
    with pytest.raises(TypeError, match="relu: x: expected an array"):
        ops.relu(jax.random.key(0))


def test_results_are_their_own() -> None:
    x, w = draw(1, 64, 80, 64), draw(64, 3, 3, 64, seed=1)
    expected = ops.conv3x3(x, w)
    kept = ops.conv3x3(jnp.asarray(x), jnp.asarray(w))
    gc.collect()
    for _ in range(3):
        ops.conv3x3(x + 1, w)
    np.testing.assert_array_equal(np.asarray(kept), expected)


def test_arrays_that_are_still_computed(device: str) -> None:
    x = jnp.asarray(draw(400, 400)) / 20
    for _ in range(6):  # JAX returns before it has begun
        x = x @ x / 20
    y = ops.relu(x, device=device)
    np.testing.assert_array_equal(np.asarray(y), np.maximum(np.asarray(x), 0))


def test_and_models(device: str) -> None:
    model = VGG.load("digits", device=device)
    pixels = draw_in((2, 32, 32, 3), "uint8")
    expected = model(pixels)
    y = model(jnp.asarray(pixels))
    assert type(y) is type(jnp.ones(1))
    np.testing.assert_array_equal(np.asarray(y), expected)


@pytest.mark.emulator
def test_captured_forward_keeps_jax_arrays_intact() -> None:
    graph = VGG.load("digits", device="emulator").capture((1, 32, 32, 3), "uint8")
    first, second = draw_in((2, 1, 32, 32, 3), "uint8")
    y = graph(jnp.asarray(first))
    before = np.array(y)
    z = graph(jnp.asarray(second))
    np.testing.assert_array_equal(np.asarray(y), before)
    assert not np.array_equal(np.asarray(z), before)
