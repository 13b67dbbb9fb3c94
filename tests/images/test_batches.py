"""Search for image files, and their batches: in order, decoded in threads, broken ones left out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vgg_cuda.images.batches import batches, find_images
from vgg_cuda.images.presets import Preset, RangeWarning

RGB = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)


def test_find_images_searches_folders(tmp_path: Path) -> None:
    (tmp_path / "b" / "c").mkdir(parents=True)
    names = ["b/2.JPG", "b/c/1.png", "a.webp"]
    for name in [*names, "notes.txt", ".hidden.png"]:
        (tmp_path / name).touch()
    (tmp_path / "b" / "folder.png").mkdir()
    (tmp_path / "b" / "link.png").symlink_to(
        tmp_path / "nowhere"
    )  # found here, reported as unreadable by batches()
    expected = [tmp_path / n for n in ("a.webp", "b/2.JPG", "b/c/1.png", "b/link.png")]
    assert find_images([tmp_path]) == expected
    assert find_images([tmp_path / "notes.txt"]) == [tmp_path / "notes.txt"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match=r"no images in the folder .*empty"):
        find_images([tmp_path / "empty"])
    for name in ("gone", "b/link.png"):
        with pytest.raises(FileNotFoundError, match=rf"no such file or folder: .*{name}"):
            find_images([tmp_path / name])


def test_find_images_expands_patterns(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    for name in ("2.png", "1.png", "b/3.png", "x[1].png"):
        (tmp_path / name).touch()
    assert find_images([tmp_path / "?.png"]) == [tmp_path / "1.png", tmp_path / "2.png"]
    assert find_images([tmp_path / "**" / "3*"]) == [tmp_path / "b" / "3.png"]
    assert find_images([tmp_path / "b*"]) == [tmp_path / "b" / "3.png"]
    assert find_images([tmp_path / "x[1].png"]) == [
        tmp_path / "x[1].png"
    ]  # an existing name is no pattern
    with pytest.raises(FileNotFoundError, match=r"no such file or folder: .*\*\.jpg"):
        find_images([tmp_path / "*.jpg"])


def test_batches_keep_order_and_skip_broken_images(tmp_path: Path) -> None:
    preset = Preset("small", (8, 8), None)
    sources: list[object] = [RGB] * 7
    (tmp_path / "zero.png").touch()
    sources[3] = tmp_path / "zero.png"
    found = list(batches(sources, preset, 3))
    assert [b.indices for b in found] == [[0, 1, 2], [4, 5, 6]]
    assert [f.index for b in found for f in b.failed] == [3]
    assert [b.x.shape for b in found] == [(3, 8, 8, 3)] * 2


def test_batches_end_where_sizes_change() -> None:
    preset = Preset("as-is", None, None)
    sources = [RGB, RGB, RGB[:10], RGB]
    assert [b.x.shape[:2] for b in batches(sources, preset, 8)] == [(2, 20), (1, 10), (1, 20)]
    assert list(batches([], preset, 8)) == []


def test_batches_take_float_arrays(tmp_path: Path) -> None:
    preset = Preset("floats", (8, 8), None)
    bad = np.full((4, 4, 3), np.nan)
    [batch] = batches([RGB, RGB / np.float32(255), bad], preset, 8)
    assert batch.indices == [0, 1]
    assert np.abs(batch.x[0] - batch.x[1]).max() < 0.02
    assert [f.index for f in batch.failed] == [2]
    with pytest.warns(RangeWarning, match=r"0 to 1 \(float pixels for preset 'floats'\)"):
        list(batches([RGB.astype(np.float32)], preset, 8))
    with pytest.raises(TypeError, match="image: expected a float array"):
        list(batches([np.zeros((4, 4))], preset, 8))


def test_batches_name_images_that_a_preset_refuses(tmp_path: Path) -> None:
    path = tmp_path / "long.png"
    Image.new("RGB", (2000, 1)).save(path)
    [batch] = batches([path], Preset("no-crop", 256 * 2, None), 8)
    assert batch.indices == []
    assert str(batch.failed[0].error).startswith(f"{path}: expected at most")
