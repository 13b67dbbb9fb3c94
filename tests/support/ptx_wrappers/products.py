"""Matrix products of tensor cores, mma.sync and wgmma: inputs, exact results, error bounds."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from support.kernel_reference import numpy_dtype
from support.ptx_wrappers.wrapper import ITEMS, LANES, SM90, Arrays, Wrapper, integers

ROW = 64  # elements of 16 bits in the 128 bytes of a swizzled row
WGMMA = (
    "wgmma_descriptor", "wgmma_descriptor_low", "wgmma_fence", "wgmma_commit", "wgmma_wait",
    "wgmma_read", "fence_proxy_async", "shared_address",
)  # fmt: skip


def product(a: np.ndarray, b: np.ndarray, acc: np.ndarray) -> np.ndarray:
    """Return acc + a b^T in float64."""
    a, b = (x.astype(np.float64) for x in (a, b))
    return acc.astype(np.float64) + a @ b.swapaxes(1, 2)


def product_bound(a: np.ndarray, b: np.ndarray, acc: np.ndarray) -> np.ndarray:
    """Bound the error of a tensor core's result.

    Fasi, Higham, Mikaitis, Pranesh, "Numerical behavior of NVIDIA tensor cores", PeerJ CS 7, 2021:
    products are exact; the terms of a block, no fewer than 4 products and the sum so far, are
    aligned to the largest and truncated to float32's 24 bits, and the block's sum is truncated
    again. Each truncation loses at most 2^-23 of S = |acc| + |a| |b|^T (plus earlier losses). There
    is one for each of K products and two for each block. The emulator's K roundings, 2^-24 S each,
    stay within the bound.
    """
    K = a.shape[-1]
    cuts = K + 2 * K / 4
    largest = product(np.abs(a), np.abs(b), np.abs(acc)) * (1 + cuts * 2.0**-23)
    return cuts * 2.0**-23 * largest


def operand(x: np.ndarray, dtype: str) -> np.ndarray:
    """Round x to an operand of a product; tf32 is a float32 whose low 13 bits are zero."""
    if dtype == "tf32":
        return round_to_tf32(x.astype(np.float32).view(np.uint32)).view(np.float32)
    return x.astype(numpy_dtype(dtype))


def round_to_tf32(x: np.ndarray) -> np.ndarray:
    """Round float32 bits to tf32 (PTX ISA, cvt.rna): ties away from zero, overflow to infinity."""
    return (x + np.uint32(1 << 12)) & np.uint32(~((1 << 13) - 1) & 0xFFFFFFFF)


def draw_round_to_tf32(rng: np.random.Generator) -> Arrays:
    """Draw every exponent, ties and infinities, but no NaN, whose bits PTX leaves open."""
    x = integers(rng, LANES)
    x[0, :4] = 0x3F801000, 0x3F800FFF, 0x7F800000, 0xFF800000
    x[:, 4:8] = x[:, 4:8] & 0xFFFFE000 | 0x1000
    return {"x": np.where((x & 0x7FFFFFFF) > 0x7F800000, np.uint32(0x3F800000), x)}


def draw_product(k: int, dtype: str, exact: bool) -> Callable[[np.random.Generator], Arrays]:
    """Draw any operands, or ``exact`` ones: small integers times one power of two per item."""

    def draw(rng: np.random.Generator) -> Arrays:
        shapes = (ITEMS, 16, k), (ITEMS, 8, k), (ITEMS, 16, 8)
        if exact:
            scale = 2.0 ** rng.integers(-6, 7, (ITEMS, 1, 1))
            a, b, acc = (rng.integers(-100, 101, shape) for shape in shapes)
            a, acc = a * scale, acc * scale
        else:
            a, b, acc = (rng.standard_normal(shape) for shape in shapes)
            a *= 2.0 ** rng.integers(-4, 5, a.shape)  # many exponents
        a, b = (operand(x, dtype) for x in (a, b))
        return {"a": a, "b": b, "acc": acc.astype(np.float32)}

    return draw


def draw_special(k: int, dtype: str) -> Callable[[np.random.Generator], Arrays]:
    """Draw exact operands with infinities, NaN and zeros in a few rows."""

    def draw(rng: np.random.Generator) -> Arrays:
        arrays = draw_product(k, dtype, True)(rng)
        arrays["a"][:, 1, 2], arrays["a"][:, 2, 3], arrays["a"][:, 4] = np.inf, np.nan, -0.0
        arrays["b"][:] = np.abs(arrays["b"].astype(np.float32)) + 1
        arrays["acc"][:, 3, 5] = -np.inf
        return arrays

    return draw


def mma(suffix: str, covers: tuple[str, ...], k: int, dtype: str) -> list[Wrapper]:
    """Test any data within the bound, and exact sums, infinities and NaN to the bit."""
    out = ((16, 8), "float32")
    kernel = f"ptx_mma_{suffix}"

    def exact(**arrays: np.ndarray) -> np.ndarray:
        with np.errstate(invalid="ignore"):
            return product(**arrays).astype(np.float32)

    return [
        Wrapper(kernel, covers, draw_product(k, dtype, False), product, out, product_bound),
        Wrapper(kernel, covers, draw_product(k, dtype, True), exact, out),
        Wrapper(kernel, covers, draw_special(k, dtype), exact, out),
    ]


def sums(
    a: np.ndarray, b: np.ndarray, acc: np.ndarray, add: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Replace acc by zero if ``add`` is zero: wgmma then ignores its registers."""
    return a, b, np.where(add[:, None, None] != 0, acc, 0)


def wgmma_product(**arrays: np.ndarray) -> np.ndarray:
    return product(*sums(**arrays))


def wgmma_bound(**arrays: np.ndarray) -> np.ndarray:
    return product_bound(*sums(**arrays))


def wgmma_exact(**arrays: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore"):
        return wgmma_product(**arrays).astype(np.float32)


def draw_wgmma(n: int, dtype: str, kind: str) -> Callable[[np.random.Generator], Arrays]:
    """Draw operands of wgmma by ``kind``: "any", "exact", or "special".

    "exact" operands are integers times a power of two; "special" adds infinities and NaN.
    """

    def draw(rng: np.random.Generator) -> Arrays:
        shapes = (ITEMS, 64, ROW), (ITEMS, n, ROW), (ITEMS, 64, n)
        if kind == "any":
            a, b, acc = (rng.standard_normal(shape) for shape in shapes)
            a *= 2.0 ** rng.integers(-4, 5, a.shape)
        else:
            scale = 2.0 ** rng.integers(-6, 7, (ITEMS, 1, 1))
            a, b, acc = (rng.integers(-100, 101, shape) for shape in shapes)
            a, acc = a * scale, acc * scale
        add = rng.integers(0, 2, ITEMS, np.int32)
        if kind == "special":
            b = np.abs(b) + 1
            a[:, 1, 2], a[:, 2, 3] = np.inf, np.nan
            acc[:, 3, 5], acc[:, 4, 6] = -np.inf, np.nan  # ignored unless `add` is set
        a, b = (operand(x, dtype) for x in (a, b))
        return {"a": a, "b": b, "acc": acc.astype(np.float32), "add": add}

    return draw


def wgmma(n: int, dtype: str, name: str, element: str) -> list[Wrapper]:
    """Test any data within the bound, and exact sums, infinities and NaN to the bit."""

    def of(kind: str) -> Wrapper:
        return Wrapper(
            f"ptx_wgmma_{name}_n{n}", (f"wgmma<{element}, {n // 2}>", *WGMMA),
            draw_wgmma(n, dtype, kind), wgmma_product if kind == "any" else wgmma_exact,
            ((64, n), "float32"), wgmma_bound if kind == "any" else None, module=SM90,
            threads=128, smem=n * 128 + 7 * 2048 + 1024,
        )  # fmt: skip

    return [of("any"), of("exact"), of("special")]
