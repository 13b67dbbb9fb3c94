"""Small Keras files: zips in memory, and a check of their refusal."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import pytest

from vgg_cuda.weights import WeightsError, load_weights

FORMS = ("keras", "h5", "weights.h5")


def refused(path: Path, text: str | None = None) -> None:
    """Check that reading ``path`` raises one line that begins with the path."""
    with pytest.raises(WeightsError, match=text) as caught:
        load_weights(path)
    message = str(caught.value)
    assert message.startswith(str(path))
    assert "\n" not in message
    assert message.isprintable()
    assert len(message) < 700


def entries(content: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def zipped(content: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        for name, data in content.items():
            archive.writestr(name, data)
    return out.getvalue()
