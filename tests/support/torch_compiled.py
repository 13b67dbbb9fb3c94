"""Helpers for tests of ``torch.compile(backend="vgg_cuda")``: counters and comparisons."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from support.tolerance import LOGITS, assert_close
from torch._dynamo.utils import counters

from vgg_cuda.interop import torch_cache


def afresh() -> Iterator[None]:
    """Reset compiled graphs, counters and packed weights around a test."""
    torch._dynamo.reset()
    counters.clear()
    yield
    torch._dynamo.reset()
    torch_cache.refresh()


def compiled(model: Any, **options: Any) -> Any:
    return torch.compile(model, backend="vgg_cuda", **options)


def counts() -> tuple[int, int]:
    return counters["vgg_cuda"]["matched"], counters["vgg_cuda"]["fallback"]


def reasons() -> dict[str, int]:
    return dict(counters["vgg_cuda_fallback"])


def picture(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def assert_like(got: torch.Tensor, expected: torch.Tensor, bound: float = LOGITS) -> None:
    """Compare values, dtype, strides and kind of tensor."""
    assert_close(got.detach().double(), expected.detach().double(), bound)
    assert got.dtype == expected.dtype
    assert got.numel() == 0 or got.stride() == expected.stride()
    assert got.is_inference() == expected.is_inference()
    assert got.requires_grad == expected.requires_grad
