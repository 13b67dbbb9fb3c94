"""Small weight files in memory, and a check of their refusal."""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from support.torch_vgg import TorchVGG

from vgg_cuda.weights import WeightsError, load_weights

SMALL = "8 M 8 M 16 M 16 16 M 24 M"
Bytes = Callable[[Any], bytes]


def zipped(value: Any) -> bytes:
    out = io.BytesIO()
    torch.save(value, out)
    return out.getvalue()


def legacy(value: Any) -> bytes:
    out = io.BytesIO()
    torch.save(value, out, _use_new_zipfile_serialization=False)
    return out.getvalue()


@cache
def state(kind: type[torch.nn.Module] = TorchVGG, batch_norm: bool = False) -> dict[str, Any]:
    return dict(kind(SMALL, hidden=8, num_classes=2, batch_norm=batch_norm).state_dict())


def refused(tmp_path: Path, content: bytes, name: str = "bad.pth") -> str:
    """Return the message that refuses a file of this content: one line, with the name."""
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(WeightsError) as caught:
        load_weights(path)
    message = str(caught.value)
    assert message.startswith(str(path))
    assert "\n" not in message
    assert "\x1b" not in message
    assert len(message) < 700
    return message
