"""ImageNet weights by name, downloaded from timm's repositories on the Hugging Face hub.

``huggingface_hub`` downloads, shows progress and caches; its variables HF_ENDPOINT (a mirror),
HF_HUB_OFFLINE (cache only) and HF_HOME (the cache's folder) apply.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

from ..configs import CONFIGS
from ..text import one_line
from .canonical import WeightsError

NAME = "imagenet"
VARIANTS = tuple(f"{name}{suffix}" for name in CONFIGS for suffix in ("", "_bn"))
DEFAULT = "vgg16"
FILE = "model.safetensors"


def matches(source: object) -> bool:
    """Return whether ``source`` is "imagenet" or "imagenet:<variant>"."""
    return isinstance(source, str) and source.partition(":")[0] == NAME


def download(source: str) -> Path:
    """Return the file of "imagenet" (VGG-16) or "imagenet:<variant>", from the cache or the hub.

    Raises :class:`WeightsError` for an unknown variant, without ``huggingface_hub``, and for a
    failed download; the message then names the alternatives.
    """
    variant = source.partition(":")[2] or DEFAULT
    if variant not in VARIANTS:
        raise WeightsError(
            f"{source}: expected one of {', '.join(VARIANTS)}, got {one_line(variant, 40)!r}"
        )
    try:
        hub: Any = importlib.import_module("huggingface_hub")
    except ImportError:
        raise WeightsError(
            f'{source}: the download needs huggingface_hub: pip install "vgg-cuda[hub]"'
        ) from None
    repository = f"timm/{variant}.tv_in1k"
    try:
        return Path(hub.hf_hub_download(repository, FILE, library_name="vgg_cuda"))
    except Exception as error:  # the hub's errors have no common base class
        raise WeightsError(
            f"{source}: cannot download {FILE} of {repository}: {_reason(error)}. Download the "
            f"file from the Hugging Face repository {repository} by hand and pass its path, set "
            "HF_ENDPOINT to a mirror, or use 'digits', which is part of the package"
        ) from None


def _reason(error: BaseException) -> str:
    """Return one line about the cause, without the advice that the hub adds."""
    return one_line(error.__cause__ or error).rstrip(".") or type(error).__name__
