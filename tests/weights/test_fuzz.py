"""A short run of the fuzz target ``tests/fuzz/fuzz_weights.py``."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from vgg_cuda.weights import load_weights


@pytest.fixture(scope="module")
def target() -> ModuleType:
    path = Path(__file__).parents[1] / "fuzz" / "fuzz_weights.py"
    spec = importlib.util.spec_from_file_location("fuzz_weights", path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.filterwarnings("ignore::vgg_cuda.weights.HeadDroppedWarning")
def test_corpus_loads(target: ModuleType, tmp_path: Path) -> None:
    for name, data in target.corpus().items():
        (tmp_path / name).write_bytes(data)
        load_weights(tmp_path / name)


def test_mutated_files(target: ModuleType, tmp_path: Path) -> None:
    tried, found = target.run(30, seed=0, keep=tmp_path, limit=800)
    assert not found
    assert tried > 100


@pytest.mark.slow
def test_more_mutated_files(target: ModuleType, tmp_path: Path) -> None:
    _, found = target.run(30, seed=1, keep=tmp_path)
    assert not found
