"""The result of a verification, as text and as JSON-ready values."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..arrays import numpy_dtype
from ..text import aligned
from .compare import Row

HEADINGS = (
    "layer", "output", "rel. L2", "since input", "worst at", "off by", "bound", "of bound",
    "verdict", "kernels",
)  # fmt: skip
TEXT_COLUMNS = (0, 1, 8, 9)


@dataclass
class Verification:
    """The steps of a network in the order of its forward.

    ``differs`` names other ways of running the network that give other bits.
    """

    device: str
    arch: str | None
    dtype: str
    rows: list[Row] = field(default_factory=list)
    differs: list[str] = field(default_factory=list)

    def merge(self, other: Verification, images: int) -> Verification:
        """Add another batch of the same network, whose first image has the number ``images``."""
        for row, more in zip(self.rows, other.rows, strict=True):
            row.merge(more, images)
        self.differs = list(dict.fromkeys([*self.differs, *other.differs]))
        return self

    @property
    def first_bad(self) -> Row | None:
        """The first row that is not "ok"; the input of later rows is already bad."""
        return next((row for row in self.rows if row.verdict != "ok"), None)

    @property
    def ok(self) -> bool:
        """Whether every element is within its bound and has the same bits in every forward."""
        return self.first_bad is None and not self.differs

    @property
    def verdict(self) -> str:
        """The verdict of the first bad row, else "ok" or "differs"."""
        bad = self.first_bad
        return bad.verdict if bad is not None else "differs" if self.differs else "ok"

    def sentence(self) -> str:
        """Return the verdict as a sentence."""
        bad = self.first_bad
        if bad is None:
            within = f"all {len(self.rows)} layers are within their bounds"
            return within + "".join(f"; {what} gives other bits" for what in self.differs)
        return f"first bad layer: {bad.name}: {_fault(bad)}"

    def table(self) -> str:
        """Return the rows as aligned text, with the verdict."""
        cells = [
            (
                row.name,
                "x".join(map(str, row.shape)),
                _shown(row.relative_l2, ".1e"),
                _shown(row.since_input, ".1e"),
                *_worst(row),
                row.verdict,
                " ".join(row.kernels),
            )
            for row in self.rows
        ]
        text = aligned([HEADINGS, *cells], left=TEXT_COLUMNS)
        return "\n".join([*text, text[1], self.sentence()])

    def as_dict(self) -> dict[str, Any]:
        """Return JSON-ready values; non-finite numbers become "nan", "inf" and "-inf"."""
        bad = self.first_bad
        return {
            "device": self.device,
            "arch": self.arch,
            "dtype": self.dtype,
            "layers": [_row(row) for row in self.rows],
            "first_bad": None if bad is None else bad.name,
            "differs": self.differs,
            "verdict": self.verdict,
            "sentence": self.sentence(),
        }


def _worst(row: Row) -> tuple[str, str, str, str]:
    """Return the cells of the worst element: index, error, bound, and ``Row.of_bound``.

    The bound includes the last rounding; ``of_bound`` does not.
    """
    worst = row.worst
    if worst is None:
        return "-", "-", "-", "-"
    return (
        ",".join(map(str, worst.index)),
        _shown(abs(worst.got - worst.expected), ".1e"),
        _shown(worst.bound, ".1e"),
        _shown(row.of_bound, ".3f" if row.of_bound < 100 else ".1e"),
    )


def _row(row: Row) -> dict[str, Any]:
    worst = row.worst
    return {
        "layer": row.name,
        "shape": list(row.shape),
        "kernels": row.kernels,
        "relative_l2": _number(row.relative_l2),
        "since_input": _number(row.since_input),
        "of_bound": _number(row.of_bound if worst else math.nan),
        "worst": worst
        and {
            "index": list(worst.index),
            "got": _number(worst.got),
            "expected": _number(worst.expected),
            "bound": _number(worst.bound),
        },
        "counts": row.counts,
        "verdict": row.verdict,
    }


def _shown(value: float, form: str) -> str:
    return "-" if math.isnan(value) else format(value, form)


def _number(value: float) -> float | str:
    return value if math.isfinite(value) else str(value)


def _largest(dtype: str) -> str:
    kind = numpy_dtype(dtype)
    infinity = np.array(np.inf).astype(kind)
    bits = infinity.view(f"u{kind.itemsize}") - 1  # the largest finite number precedes infinity
    return f"{float(bits.astype(bits.dtype).view(kind)):.6g}"


def _fault(row: Row) -> str:
    """Describe the fault of a row."""
    total, counts, worst = row.elements, row.counts, row.worst
    if row.verdict == "wrong" and worst is not None:
        return (
            f"{_of(counts['wrong'], total)} beyond what rounding explains; the worst at "
            f"{list(worst.index)}: expected {worst.expected:.9g} within {worst.bound:.2g}, got "
            f"{worst.got:.9g}"
        )
    if row.verdict == "overflow":
        if row.infinite_weights:
            bad = f"{row.infinite_weights:,} of its weights are"
        else:
            bad = _of(counts["overflow"], total)
        advice = "; use bfloat16 or float32, which reach 3.4e38" * (row.dtype == "float16")
        return f"{bad} beyond {row.dtype}'s largest number, {_largest(row.dtype)}{advice}"
    if counts["not finite"]:
        return (
            f"{_of(counts['not finite'], total)} not finite, although a finite number is expected"
        )
    return f"{_of(counts['inherited'], total)} not finite because its input or weights are not"


def _of(count: int, total: int) -> str:
    return f"{count:,} of {total:,} elements {'is' if count == 1 else 'are'}"
