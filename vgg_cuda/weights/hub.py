"""ImageNet weights by name, fetched from timm's repositories on the Hugging Face hub.

``huggingface_hub`` downloads, shows progress and caches; its HF_ENDPOINT (a mirror), HF_HUB_OFFLINE
(the cache alone) and HF_HOME (where the cache is) hold here too.
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
    """Whether ``source`` is "imagenet" or "imagenet:<variant>"."""
    return isinstance(source, str) and source.partition(":")[0] == NAME


def download(source: str) -> Path:
    """The file that "imagenet" (VGG-16) or "imagenet:<variant>" names, from the cache or the hub.

    Raises :class:`WeightsError` for an unknown variant, without ``huggingface_hub``, and where the
    file cannot be had; the text then says what to do instead.
    """
    variant = source.partition(":")[2] or DEFAULT
    if variant not in VARIANTS:
        raise WeightsError(
            f"{source}: unknown variant {one_line(variant, 40)!r}: expected one of "
            f"{', '.join(VARIANTS)}"
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
    except Exception as error:  # its errors share no base, and its HTTP client's are not public
        raise WeightsError(
            f"{source}: cannot get {FILE} of {repository}: {_reason(error)}. Instead: download "
            f"that file from the Hugging Face repository {repository} by hand and pass its path; "
            "or set HF_ENDPOINT to a mirror that you reach; or use 'digits', which ships"
        ) from None


def _reason(error: BaseException) -> str:
    """One line on why: the cause is more telling than the advice around it."""
    return one_line(error.__cause__ or error).rstrip(".") or type(error).__name__
