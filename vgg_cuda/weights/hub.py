"""ImageNet weights by name, downloaded from timm's repositories on the Hugging Face hub.

``huggingface_hub`` downloads, shows progress and caches; its variables HF_ENDPOINT (a mirror),
HF_HUB_OFFLINE (cache only) and HF_HOME (the cache's folder) apply.
"""

from __future__ import annotations

from pathlib import Path

from ..configs import CONFIGS
from ..text import one_line
from .canonical import WeightsError, import_extra

NAME = "imagenet"
VARIANTS = tuple(f"{name}{suffix}" for name in CONFIGS for suffix in ("", "_bn"))
DEFAULT = "vgg16"
FILE = "model.safetensors"


def matches(source: str) -> bool:
    """Return whether ``source`` is "imagenet" or "imagenet:<variant>"."""
    return source.partition(":")[0] == NAME


def download(source: str) -> Path:
    """Return the file of "imagenet" (VGG-16) or "imagenet:<variant>", from the cache or the hub.

    Raises :class:`WeightsError` for an unknown variant, without ``huggingface_hub``, and for a
    failed download; the message then names the alternatives.
    """
    variant = source.partition(":")[2] or DEFAULT
    if variant not in VARIANTS:
        raise WeightsError(f"expected one of {', '.join(VARIANTS)}, got {one_line(variant, 40)!r}")
    hub = import_extra("huggingface_hub", "hub", "the download")
    repository = f"timm/{variant}.tv_in1k"
    try:
        return Path(hub.hf_hub_download(repository, FILE, library_name="vgg_cuda"))
    except Exception as error:  # the hub's errors have no common base class
        # the hub's own message adds advice to its cause
        reason = one_line(error.__cause__ or error).rstrip(".") or type(error).__name__
        raise WeightsError(
            f"cannot download {FILE} of {repository}: {reason}. Download the file from the Hugging "
            f"Face repository {repository} by hand and pass its path, set HF_ENDPOINT to a mirror, "
            "or use 'digits', which is part of the package"
        ) from None
