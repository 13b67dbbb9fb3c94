"""Include order of the emulator's folders."""

import re
from pathlib import Path

EMULATOR = Path(__file__).parents[2] / "csrc" / "emulator"
ORDER = ["core", "parse", "decode", "memory", "run", "instructions"]
INCLUDE = re.compile(r'#include "(emulator/)?(?:(\w+)/)?(\w+\.h)"')


def test_emulator_includes_point_downwards() -> None:
    for path in sorted(EMULATOR.rglob("*.[hc]*")):
        folder = path.parent.name
        for _, include, file in INCLUDE.findall(path.read_text()):
            if include in ORDER:
                assert folder in ORDER, f"{path}: {file} is above the ground headers"
                assert ORDER.index(include) <= ORDER.index(folder), f"{path} includes {file}"


def test_emulator_includes_name_their_folder() -> None:
    folders = {path.name for path in EMULATOR.iterdir() if path.is_dir()}
    assert folders == set(ORDER)
    for path in EMULATOR.rglob("*.[hc]*"):
        for prefix, folder, file in INCLUDE.findall(path.read_text()):
            assert prefix or folder in ("kernels", "launch"), f"{path} includes {file}"
