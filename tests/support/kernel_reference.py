"""References for kernels: float64, and the same sums in the kernel's precision and order.

y_same has the kernel's operands, rounded to its dtype, and its order of additions. The emulator
gives the bits of y_same if sums have one order. On a GPU, and for approximate exp and division (softmax,
average pool), the bound is derived: max|y - y64| <= 2 max|y_same - y64| + 1 ulp. The ulp is the
output dtype's, at the magnitude of the worst element.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from vgg_cuda import ops
from vgg_cuda.configs import Conv
from vgg_cuda.weights import Weights

FACTOR = 2
# fraction bits, and smallest exponent of normal numbers
FORMATS = {"float32": (23, -126), "float16": (10, -14), "bfloat16": (7, -126), "tf32": (10, -126)}
SHORT = {"float32": "f32", "tf32": "tf32", "float16": "f16", "bfloat16": "bf16", "uint8": "u8"}


def numpy_dtype(name: str) -> np.dtype:
    """Return the dtype of arrays; arrays of tf32 are float32."""
    if name == "tf32":
        return np.dtype(np.float32)
    if name == "bfloat16":
        import ml_dtypes

        return np.dtype(ml_dtypes.bfloat16)
    return np.dtype(name)


def draw(shape: tuple[int, ...], dtype: str, scale: float = 1.0, seed: int = 0) -> np.ndarray:
    """Draw normally distributed numbers, or pixels for uint8."""
    rng = np.random.default_rng([seed, *shape])
    if dtype == "uint8":
        return rng.integers(0, 256, shape, dtype=np.uint8)
    return (scale * rng.standard_normal(shape, dtype=np.float32)).astype(numpy_dtype(dtype))


def rounded(y: np.ndarray, dtype: str) -> np.ndarray:
    """Round float32 sums to the result's dtype."""
    with np.errstate(over="ignore"):
        return y.astype(numpy_dtype(dtype))


def factors(x: np.ndarray, dtype: str) -> np.ndarray:
    """Round x to factors of a product; tf32 rounds to nearest, ties away from zero."""
    if dtype != "tf32":
        return rounded(x, dtype)
    digits, smallest = FORMATS[dtype]
    with np.errstate(over="ignore", invalid="ignore"):
        size = np.abs(x.astype(np.float64))
        exponent = np.maximum(np.frexp(size)[1] - 1, smallest)
        steps = np.floor(np.ldexp(size, digits - exponent) + 0.5)
        return np.copysign(np.ldexp(steps, exponent - digits), x).astype(np.float32)


def ulp(value: float, dtype: str) -> float:
    digits, smallest = FORMATS[dtype]
    exponent = int(np.frexp(abs(value))[1]) - 1 if value else smallest
    return float(2.0 ** (max(exponent, smallest) - digits))


def assert_within(y: Any, y64: np.ndarray, y_same: np.ndarray, what: str = "") -> None:
    """Check the module's bound; results that are infinite or NaN in y's dtype must be equal."""
    dtype = y.dtype.name
    assert y.shape == y64.shape == y_same.shape, f"{what}: {y.shape}, expected {y64.shape}"
    if not y.size:
        return
    got, same = y.astype(np.float64), y_same.astype(np.float64)
    with np.errstate(over="ignore"):
        limit = y64.astype(numpy_dtype(dtype)).astype(np.float64)
    odd = ~np.isfinite(limit)
    np.testing.assert_array_equal(got[odd], limit[odd], err_msg=what)
    if odd.all():
        return
    error = np.where(odd, 0, np.abs(got - np.where(odd, got, y64)))
    error = np.where(np.isnan(error), np.inf, error)
    same_error = np.where(odd | ~np.isfinite(same), 0, np.abs(same - np.where(odd, same, y64)))
    worst = np.unravel_index(error.argmax(), error.shape)
    bound = FACTOR * same_error.max() + ulp(y64[worst], dtype)
    assert error[worst] <= bound, (
        f"{what}: worst at {tuple(int(i) for i in worst)}: got {got[worst]!r}, expected "
        f"{y64[worst]!r}, in the same precision {same[worst]!r}: {error[worst] / bound:.2f} of the "
        f"bound {bound:.3g}; {int((error > bound).sum())} of {error.size} are off"
    )


def assert_same_bits(y: Any, y_same: np.ndarray, what: str = "") -> None:
    """Check that bits are equal, for results with one rounding or a known order of additions."""
    assert y.shape == y_same.shape, f"{what}: {y.shape}, expected {y_same.shape}"
    assert y.dtype == y_same.dtype, f"{what}: {y.dtype}, expected {y_same.dtype}"
    bits = f"u{y.itemsize}"
    off = np.asarray(y).view(bits) != np.ascontiguousarray(y_same).view(bits)
    if off.any():
        first = tuple(int(i) for i in np.argwhere(off)[0])
        raise AssertionError(
            f"{what}: {int(off.sum())} of {off.size} are off, the first at {first}: got "
            f"{y[first]!r}, expected {y_same[first]!r}"
        )


def accumulate(a: np.ndarray, b: np.ndarray, tiling: dict[str, Any]) -> np.ndarray:
    """Compute a [M,GEMM_K] b [N,GEMM_K]^T -> [M,N] with float32 sums in the order of the tiling.

    Fused multiply-adds make partial sums, partial sums make splits, and splits make the result,
    each in sequence. A product of float32 is exact in float64.
    """
    a, b = a.astype(np.float64).T.copy(), b.astype(np.float64).T.copy()
    gemm_k = a.shape[0]
    if tiling.get("walk") == "csr":  # columns (r, s, c) by block_k channels, s, r
        order = np.arange(gemm_k).reshape(3, 3, -1, tiling["block_k"]).transpose(2, 1, 0, 3).ravel()
        a, b = a[order], b[order]
    columns = tiling["steps"] * tiling["block_k"] if tiling["split_k"] > 1 else gemm_k
    partial = tiling["partial_sum"] or columns
    y = np.zeros((a.shape[1], b.shape[1]), np.float32)
    product = np.empty(y.shape)
    for start in range(0, gemm_k, columns):
        split = np.zeros_like(y)
        end = min(start + columns, gemm_k)
        for first in range(start, end, partial):
            total = np.zeros_like(y)
            for k in range(first, min(first + partial, end)):
                np.multiply(a[k][:, None], b[k], out=product)
                product += total
                total[...] = product
            split = total if first == start else split + total
        y = split if start == 0 else y + split
    return y


def im2col(x: np.ndarray) -> np.ndarray:
    """Rearrange x [N,H,W,C] to [N*H*W, 9*C], with columns in the order r, s, c."""
    N, H, W, C = x.shape
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    taps = [padded[:, r : r + H, s : s + W] for r in range(3) for s in range(3)]
    return np.concatenate(taps, axis=-1).reshape(N * H * W, 9 * C)


def epilogue(y: np.ndarray, bias: np.ndarray, relu: bool) -> np.ndarray:
    y = y + bias.astype(y.dtype)
    return np.maximum(y, 0) if relu else y


def pooled(y: np.ndarray) -> np.ndarray:
    N, H, W, C = y.shape
    windows = y[:, : H // 2 * 2, : W // 2 * 2].reshape(N, H // 2, 2, W // 2, 2, C)
    return windows.max(axis=(2, 4))


def softmax32(x: np.ndarray) -> np.ndarray:
    """Compute softmax in float32, with sequential sums."""
    x = x.astype(np.float32)
    e = np.exp(x - x.max(axis=1, keepdims=True))
    return e / np.cumsum(e, axis=1, dtype=np.float32)[:, -1:]


def avgpool32(x: np.ndarray, grid: int) -> np.ndarray:
    """Compute the adaptive average pool in float32, with sequential sums."""
    N, H, W, C = x.shape
    y = np.empty((N, grid, grid, C), np.float32)
    for i in range(grid):
        for j in range(grid):
            rows = slice(i * H // grid, -(-(i + 1) * H // grid))
            columns = slice(j * W // grid, -(-(j + 1) * W // grid))
            window = x[:, rows, columns].reshape(N, -1, C).astype(np.float32)
            total = np.cumsum(window, axis=1, dtype=np.float32)[:, -1]
            y[:, i, j] = total / np.float32(window.shape[1])
    return y


def rounded_forward(weights: Weights, x: np.ndarray, dtype: str) -> dict[str, np.ndarray]:
    """Return a forward's taps in float32, with every factor and result rounded to ``dtype``."""
    config, tensors = weights.config, weights.tensors
    taps = {}

    def low(array: np.ndarray) -> np.ndarray:
        return rounded(array, dtype).astype(np.float32)

    def factor(array: np.ndarray) -> np.ndarray:
        return factors(array, dtype).astype(np.float32)

    y = x
    for layer in config.features:
        if isinstance(layer, Conv):
            w, bias = tensors[f"{layer.name}.weight"], tensors[f"{layer.name}.bias"]
            y = low(ops.conv3x3(factor(y), factor(w), bias, relu=True))
            taps[layer.relu_name] = y
        else:
            y = taps[layer.name] = ops.maxpool2x2(y)
    y = taps["avgpool"] = low(ops.avgpool(y, config.pool_grid))
    y = y.reshape(len(y), -1)
    for dense in config.dense:
        w, bias = tensors[f"{dense.name}.weight"], tensors[f"{dense.name}.bias"]
        y = low(ops.linear(factor(y), factor(w), bias, relu=dense.relu))
        taps[dense.relu_name if dense.relu else dense.name] = y
    taps["prob"] = low(ops.softmax(y))
    return taps
