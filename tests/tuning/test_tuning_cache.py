"""Entries in cache files: other devices and builds, damage, and several models at once."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from support.tuning import MadeUpTimer, entries_of, model, planned

from vgg_cuda import DeviceWarning
from vgg_cuda.backends import verdicts
from vgg_cuda.backends.emulator import EmulatorBackend
from vgg_cuda.tuning import Entries, header_of

pytestmark = pytest.mark.emulator


@pytest.fixture
def file(timer: MadeUpTimer, folder: Path) -> Path:
    """Tune a model, and return the file of its entries."""
    planned(model("now"))
    [found] = folder.glob("tuning-*.json")
    return found


def edit(file: Path, edited: Any) -> None:
    content = json.loads(file.read_text())
    edited(content)
    file.write_text(json.dumps(content))


def test_another_driver_or_build_is_ignored(
    file: Path, timer: MadeUpTimer, monkeypatch: pytest.MonkeyPatch
) -> None:
    never, before = planned(model("never")), file.read_text()
    assert planned(model("cached")) != never
    for name, value in (("_driver_version", "590.1"), ("_build", "abc")):
        with monkeypatch.context() as patch:
            patch.setattr(verdicts, name, lambda value=value: value)
            assert planned(model("cached")) == never
            planned(model("now"))
    assert file.read_text() == before
    assert len(list(file.parent.glob("tuning-*.json"))) == 3


def test_emulator_has_a_file_of_its_own(file: Path) -> None:
    on_emulator = model("cached", "emulator", arch="sm_90a")
    assert planned(on_emulator) == planned(model("never", "emulator", arch="sm_90a"))
    assert header_of(EmulatorBackend("sm_90a"))["gpu"] == "emulator"
    assert "emulator" not in file.name


def test_unknown_and_unavailable_variants_are_ignored(file: Path, timer: MadeUpTimer) -> None:
    def rename(content: Any) -> None:
        for entry in content["entries"].values():
            entry["times"]["halo_m1n1"] = 0.1
            entry["variant"] = "halo_m1n1"

    edit(file, rename)
    assert planned(model("cached")) == planned(model("never"))


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content["header"].update(driver="other"),
        lambda content: content["entries"].update(a={"op": "conv3x3"}),
    ],
    ids=["foreign", "corrupt"],
)
def test_damaged_file_is_ignored_with_one_warning(file: Path, damage: Any) -> None:
    edit(file, damage)
    with pytest.warns(DeviceWarning, match="cache file .* is ignored"):
        cached = model("cached")
    assert planned(cached) == planned(model("never"))
    assert planned(model("cached")) == planned(model("never"))


def test_unwritable_cache_warns_once(timer: MadeUpTimer, folder: Path) -> None:
    tuned = model("now")
    path = Entries(header_of(tuned._backend)).file.path  # type: ignore[arg-type]
    path.with_suffix(".lock").mkdir(parents=True)  # cannot be opened as a file
    with pytest.warns(DeviceWarning, match="lasts only as long as this process: cannot wri") as w:
        names = planned(tuned)
    assert len(w) == 1
    count = len(timer.measured)
    assert planned(tuned) == names != planned(model("never"))
    assert len(timer.measured) == count


def test_models_that_tune_at_once_lose_nothing(timer: MadeUpTimer) -> None:
    first, second = model("now"), model("now")  # both have read the file
    planned(first, n=1)
    planned(second, n=2)
    planned(first, n=3)
    batches = {entry.sizes[0] for entry in entries_of(first).values()}
    assert batches == {1, 2, 3}


def test_interrupted_run_keeps_what_is_finished(
    timer: MadeUpTimer, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measure = timer.measure

    def interrupted(run: Any, clear_cache: bool) -> float:
        if len(timer.measured) == 12:
            raise KeyboardInterrupt
        return measure(run, clear_cache)

    tuned = model("now")
    with monkeypatch.context() as patch:
        patch.setattr(timer, "measure", interrupted)
        with pytest.raises(KeyboardInterrupt):
            planned(tuned)
    finished = len(entries_of(tuned))
    assert 0 < finished < 6
    assert [path.suffix for path in sorted(folder.iterdir())] == [".json", ".lock"]
    assert planned(model("now")) == planned(tuned)
    assert len(entries_of(tuned)) == 6


def test_keys_name_all_that_plans_depend_on(file: Path) -> None:
    keys = json.loads(file.read_text())["entries"]
    pattern = r"(conv3x3|linear|fused_conv1_block) \d+(x\d+)+( \w+=\w+)+"
    assert all(re.fullmatch(pattern, key) for key in keys)
    assert (
        "conv3x3 2x16x16x64x64 dtype=float16 x_dtype=float16 relu=True pool=True aligned=True"
        in keys
    )
