"""What is taken for granted of a file of weights alone, which does not say what its layers do."""

from __future__ import annotations

import warnings
from collections.abc import Sequence


class AssumedWarning(UserWarning):
    """A file of weights alone does not say what its layers compute; this names what is assumed."""


def warn_assumed(source: str, assumed: Sequence[str], stacklevel: int) -> None:
    """The one warning of a load; ``stacklevel`` counts from the caller of this function."""
    warnings.warn(
        f"{source}: a file of weights alone does not say what its layers compute. Assumed: "
        f"{'; '.join(assumed)}. A whole model (.keras) says it",
        AssumedWarning,
        stacklevel=stacklevel + 1,
    )
