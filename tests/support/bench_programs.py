"""Networks and layers as benchmark work, and sessions that compute them."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vgg_cuda.bench.layers import network_layers
from vgg_cuda.bench.session import Session
from vgg_cuda.bench.truth import truth
from vgg_cuda.bench.work import Job, Work
from vgg_cuda.configs import Config


def needs(name: str) -> Any:
    library = {"onnxruntime": ("onnx", "onnxruntime"), "jax": ("jax",)}.get(name, ("torch",))
    missing = [each for each in library if find_spec(each) is None]
    return pytest.mark.skipif(bool(missing), reason=f"needs {', '.join(missing)}")


def whole(config: Config, batch: int, side: int = 32, kind: Any = "model") -> Work:
    return Work(kind, config.name, (batch, side, side, 3), tuple(network_layers(config)))


def checked(job: Job, name: str, work: Work, folder: Path) -> tuple[float, float, Session]:
    """Return the relative error that a session measures, its bound, and the warm session."""
    exact, bound = truth(
        work.layers,
        work.tensors(job),
        work.with_batch(min(work.batch, 3)).input(job.seed),
        job.dtype,
    )
    np.save(folder / "exact.npy", exact.astype(np.float32))
    found = Session()
    assert found.handle({"do": "open", "peer": name, "job": job})["load_s"] > 0
    found.handle({"do": "prepare", "work": work})
    reply = found.handle({"do": "check", "exact": str(folder / "exact.npy")})
    return reply["relative_error"], bound, found
