"""Headers of cache files: what they say about a GPU and its driver."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from vgg_cuda.backends import verdicts

pytestmark = pytest.mark.emulator

DEVICE: Any = {"name": "NVIDIA H200", "sm_count": 132}


@pytest.mark.parametrize(
    ("text", "driver"),
    [
        ("NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.104.05  Sat Aug 19\n", "535.104.05"),
        ("NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.65.06  Release Build  "
         "(dvs-builder@U22)  Sun Jul 27\nGCC version:  gcc version 12.3.0\n", "580.65.06"),
    ],
    ids=["proprietary", "open"],
)  # fmt: skip
def test_driver_version_of_both_modules(
    text: str, driver: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "version").write_text(text)
    monkeypatch.setattr(verdicts, "DRIVER", tmp_path / "version")
    assert verdicts.device_header(DEVICE, "sm_90a")["driver"] == driver
