"""Run tests/fuzz/fuzz_images.py for a few seconds; longer runs are started by hand."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

PATH = Path(__file__).parents[1] / "fuzz" / "fuzz_images.py"


@pytest.fixture(scope="module")
def target() -> ModuleType:
    spec = importlib.util.spec_from_file_location("fuzz_images", PATH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_corpus_has_every_format(target: ModuleType) -> None:
    kinds = {name.split("-")[0] for name in target.corpus()}
    assert kinds >= {"png", "jpeg", "gif", "bmp", "ppm", "tga", "tiff"}


def test_mutations_are_deterministic(target: ModuleType) -> None:
    a, b = bytes(range(200)), bytes(range(50, 250))
    first, again = (
        [target.mutated(a, b, target.random.Random(f"1 {i}")) for i in range(200)] for _ in range(2)
    )
    assert first == again
    assert len(set(first)) > 190


@pytest.mark.parametrize(
    "seconds", [3, pytest.param(30, marks=pytest.mark.slow)], ids=lambda s: f"{s}s"
)
def test_mutated_images_never_crash(target: ModuleType, seconds: int, tmp_path: Path) -> None:
    tried, read = target.fuzz(seconds, seed=seconds, keep=tmp_path)
    assert tried > 100
    assert 0 < read < tried
