"""Shared by all tests: the marks `emulator` and `gpu`, and the CPU threads of parallel runs."""

from __future__ import annotations

import os
import signal
import tempfile

import pytest

EXPECTED = "VGG_CUDA_TESTS_EXPECT_EMULATOR"  # `make test` sets it to 1
BACKENDS = {"emulator": "emulator", "gpu": "cuda"}  # by mark

# BLAS and PyTorch read this when they are loaded. Threads of several workers on one core would
# spend most of their time waiting for each other.
if "PYTEST_XDIST_WORKER" in os.environ:
    workers = int(os.environ["PYTEST_XDIST_WORKER_COUNT"])
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // workers)))

# A shell starts background jobs with SIGINT ignored, which the children of tests would inherit.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Tests neither read nor write the caches of whoever runs them, unless a folder is named.
_cache = tempfile.TemporaryDirectory(prefix="vgg-cuda-tests-")
os.environ.setdefault("VGG_CUDA_CACHE", _cache.name)


def why_missing(backend: str) -> str | None:
    from vgg_cuda import backends  # after OMP_NUM_THREADS: it loads NumPy

    return backends.why_missing(backend)


def pytest_configure() -> None:
    """Stop at once if the build lacks the emulator that the environment asks for."""
    reason = why_missing("emulator")
    if reason is not None and os.environ.get(EXPECTED) == "1":
        raise pytest.UsageError(f"{EXPECTED}=1: expected a build with the emulator: {reason}")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip marked tests, with one reason for each mark, if their backend is missing."""
    for mark, backend in BACKENDS.items():
        marked = [item for item in items if item.get_closest_marker(mark)]
        reason = why_missing(backend) if marked else None
        for item in marked if reason else []:
            item.add_marker(pytest.mark.skip(reason=reason))
