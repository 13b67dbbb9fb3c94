"""The result of a verification: as a table with one sentence, and as JSON-ready values."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..arrays import numpy_dtype
from .compare import Row

HEADINGS = (
    "layer", "output", "rel. L2", "since input", "worst at", "off by", "bound", "of bound",
    "verdict", "kernels",
)  # fmt: skip
NUMBERS = range(2, 8)  # columns that are numbers


@dataclass
class Verification:
    """The rows of a network in the order of its forward.

    ``differs``: what else computes its result, and gives other bits.
    """

    device: str
    arch: str | None
    dtype: str
    rows: list[Row] = field(default_factory=list)
    differs: list[str] = field(default_factory=list)

    def merge(self, other: Verification, images: int) -> None:
        """Adds another batch of the same network, whose first image is number ``images``."""
        for row, more in zip(self.rows, other.rows, strict=True):
            row.merge(more, images)
        self.differs = list(dict.fromkeys([*self.differs, *other.differs]))

    @property
    def first_bad(self) -> Row | None:
        """The first row that is not "ok": those behind it have a bad input."""
        return next((row for row in self.rows if row.verdict != "ok"), None)

    @property
    def ok(self) -> bool:
        """Is every element of every layer within its bound, and the same in every forward?"""
        return self.first_bad is None and not self.differs

    @property
    def verdict(self) -> str:
        """The first bad row's, else "ok", or "differs"."""
        bad = self.first_bad
        return bad.verdict if bad is not None else "differs" if self.differs else "ok"

    def sentence(self) -> str:
        """The verdict."""
        bad = self.first_bad
        if bad is None:
            within = f"all {len(self.rows)} layers are within their bounds"
            return within + "".join(f"; {what} gives other bits" for what in self.differs)
        return f"first bad layer: {bad.name}: {_what(bad)}"

    def table(self) -> str:
        """The rows as aligned plain text, and the verdict."""
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
        lines = [HEADINGS, *cells]
        widths = [max(len(line[i]) for line in lines) for i in range(len(HEADINGS))]
        text = [
            "  ".join(
                cell.rjust(widths[i]) if i in NUMBERS else cell.ljust(widths[i])
                for i, cell in enumerate(line)
            ).rstrip()
            for line in lines
        ]
        rule = "-" * max(map(len, text))
        return "\n".join([text[0], rule, *text[1:], rule, self.sentence()])

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready values; numbers that JSON has not are "nan", "inf" and "-inf"."""
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
    """Where the worst element is, its error, its bound, and how much of that the sum must be off.

    The bound leaves room for the last rounding, which that part does not count.
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
        "of_bound": _number(_of_bound(row)),
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


def _of_bound(row: Row) -> float:
    return row.of_bound if row.worst else math.nan


def _shown(value: float, form: str) -> str:
    return "-" if math.isnan(value) else format(value, form)


def _number(value: float) -> float | str:
    return value if math.isfinite(value) else str(value)


def _greatest(dtype: str) -> str:
    kind = numpy_dtype(dtype)
    infinity = np.array(np.inf).astype(kind)
    bits = infinity.view(f"u{kind.itemsize}") - 1  # the number before it
    return f"{float(bits.astype(bits.dtype).view(kind)):.6g}"


def _what(row: Row) -> str:
    """What is bad about it, in a sentence."""
    total, counts, worst = row.elements, row.counts, row.worst
    if row.verdict == "wrong" and worst is not None:
        return (
            f"{_of(counts['wrong'], total)} beyond what rounding explains; the worst at "
            f"{list(worst.index)}: got {worst.got:.9g}, expected {worst.expected:.9g}, at most "
            f"{worst.bound:.2g} off"
        )
    if row.verdict == "overflow":
        if row.infinite_weights:
            what = f"{row.infinite_weights:,} of its weights are"
        else:
            what = _of(counts["overflow"], total)
        advice = "; bfloat16 and float32 reach 3.4e38" * (row.dtype == "float16")
        return f"{what} beyond {row.dtype}'s greatest number, {_greatest(row.dtype)}{advice}"
    if counts["not finite"]:
        return f"{_of(counts['not finite'], total)} not finite where a finite number is expected"
    return f"{_of(counts['inherited'], total)} not finite, nor are its input or weights"


def _of(count: int, total: int) -> str:
    return f"{count:,} of {total:,} elements {'is' if count == 1 else 'are'}"
