"""Marks of the whole suite: tests of the emulator and of a GPU are skipped where there is none."""

from __future__ import annotations

import os

import pytest

from vgg_cuda.backends import why_missing

EXPECTED = "VGG_CUDA_TESTS_EXPECT_EMULATOR"  # `make test` sets it to 1
BACKENDS = {"emulator": "emulator", "gpu": "cuda"}  # by mark


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
