"""Reports like those of a run, with invented times."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from vgg_cuda.bench.report import Ceiling, Report, Result
from vgg_cuda.bench.samples import summarize

PEERS = {"vgg_cuda": 1.0, "torch": 1.6, "onnxruntime": 1.3}


def timed(times: Sequence[float], **fields: Any) -> Result:
    """Return a result with the statistics of ``times``."""
    found = summarize(times)
    base = Result(
        name="vgg16", peer="vgg_cuda", batch=1, size=224, dtype="float32", status="ok",
        relative_error=3e-7, samples=found.samples, median_s=found.median, iqr_s=found.iqr,
        confidence_s=found.confidence, percentiles_s=found.percentiles,
    )  # fmt: skip
    result = replace(base, **fields)
    return replace(result, images_per_s=result.batch / found.median)


def noisy(median: float, noise: float, samples: int, rng: np.random.Generator) -> list[float]:
    """Draw times of a shared machine: most near the median, a few far above it."""
    times = median * np.exp(noise * rng.standard_normal(samples))
    late = rng.random(samples) < 0.05
    return list(np.where(late, times * (1 + rng.exponential(0.5, samples)), times))


def report(results: list[Result], **fields: Any) -> Report:
    base: dict[str, Any] = {
        "kind": "model", "commit": "0123456789abcdef0123456789abcdef01234567",
        "date": "2026-11-28T12:00:00+00:00", "device": "AMD EPYC, 2 cores", "device_kind": "cpu",
        "versions": {"python": "3.11.7", "vgg_cuda": "0.1.0", "torch": "2.13.0+cpu"}, "seed": 0,
        "ceilings": {
            "copy": Ceiling(median_s=0.01, samples=20, bytes_per_s=1.2e10),
            "matmul": Ceiling(median_s=0.1, samples=20, flops_per_s=1.1e11, shape=[2048] * 3),
        },
    }  # fmt: skip
    return Report(**(base | fields), results=results)


def model(batches: Sequence[int] = (1, 8), seed: int = 0, **fields: Any) -> Report:
    """Return a report of three programs, and one that is not installed."""
    rng = np.random.default_rng(seed)
    results = []
    for batch in batches:
        for peer, ratio in PEERS.items():
            median = 0.02 + 0.13 * ratio * batch
            results.append(
                timed(
                    noisy(median, 0.03, 40, rng), peer=peer, batch=batch, peak_bytes=1_140_000_000,
                    load_s=0.9, ratio=median / (0.02 + 0.13 * batch), how="plain calls",
                )
            )  # fmt: skip
        results.append(
            Result(
                name="vgg16", peer="jax", batch=batch, size=224, dtype="float32", status="n/a",
                reason="not installed: pip install jax",
            )
        )  # fmt: skip
    return report(results, **fields)


LAYERS = {
    "conv1_1": (0.173e9, 13.5e6), "conv1_2": (3.70e9, 19.4e6), "conv2_1": (1.85e9, 9.9e6),
    "conv2_2": (3.70e9, 8.6e6), "conv3_1": (1.85e9, 6.0e6), "conv3_2": (3.70e9, 8.8e6),
    "conv3_3": (3.70e9, 6.4e6), "conv4_1": (1.85e9, 6.9e6), "conv4_2": (3.70e9, 12.6e6),
    "conv4_3": (3.70e9, 11.4e6), "conv5_1": (0.925e9, 10.2e6), "conv5_2": (0.925e9, 10.2e6),
    "conv5_3": (0.925e9, 9.9e6), "fc6": (0.206e9, 411e6), "fc7": (0.0336e9, 67e6),
    "fc8": (0.0082e9, 16.4e6),
}  # fmt: skip


def layers(kind: str = "kernel", peers: Sequence[str] = ("vgg_cuda",), **fields: Any) -> Report:
    """Return a profile of VGG-16 at 224x224: every layer, and a softmax without FLOPs."""
    rng = np.random.default_rng(1)
    results = []
    for peer in peers:
        slower = PEERS[peer]
        for name, (flops, nbytes) in LAYERS.items():
            floor = max(flops / 1.1e11, nbytes / 1.2e10)
            median = floor * slower * float(rng.uniform(1.2, 1.9))
            results.append(
                timed(
                    noisy(median, 0.02, 30, rng), name=name, peer=peer, flops=flops, bytes=nbytes,
                    flops_per_s=flops / median, bytes_per_s=nbytes / median, floor_s=floor,
                    of_floor=floor / median, of_compute=flops / median / 1.1e11,
                    of_memory=nbytes / median / 1.2e10, ratio=slower,
                    bound="compute" if flops / 1.1e11 > nbytes / 1.2e10 else "memory",
                    kernels=["winograd"], share=1 / 17 if kind == "profile" else None,
                )
            )  # fmt: skip
    results.append(timed([1e-5] * 10, name="prob", flops=0.0, bytes=8000.0))
    return report(results, kind=kind, **fields)
