"""Comparison of two reports: which results became slower or faster beyond the noise.

A result is slower if the ratio of its medians exceeds what chance explains. Chance has two parts:
the 95 % intervals of both medians, and a threshold for variation between runs that no interval
within a run can show, such as clocks, memory placement and other processes. The parts are
independent, so their logarithms add as the sides of a right triangle.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePath
from typing import Literal

from ..text import plain
from .report import KEY, SHORTEST_S, DeviceKind, Key, Report, Result

THRESHOLDS: dict[DeviceKind, float] = {"cpu": 0.05, "cuda": 0.02, "emulator": 0.0}
"""On a CPU, other processes share caches and clocks with the benchmark; on a GPU, clocks vary."""

FEW = {1: 1.5, 2: 1.5, 3: 1.15, 4: 1.15, 5: 1.15}
"""Minimum interval of the median by number of samples, as a factor to both sides.

The range of fewer than 6 samples covers the median in less than 95 % of cases."""

Verdict = Literal[
    "slower", "faster", "same", "broken", "mended", "not measured", "counters differ",
    "not comparable",
]  # fmt: skip
REGRESSIONS: tuple[Verdict, ...] = ("slower", "broken")


@dataclass(frozen=True)
class Pair:
    """Two results with the same key, one from each report.

    ``ratio`` is the new median divided by the old one, and ``limit`` the ratio above which the
    result counts as slower; both are None if one result has no time. ``why`` gives the reason if
    the results are not comparable.
    """

    old: Result
    new: Result
    ratio: float | None
    limit: float | None
    verdict: Verdict
    why: str | None = None

    @property
    def regression(self) -> bool:
        """True if the new result is slower, or no longer correct."""
        return self.verdict in REGRESSIONS


@dataclass(frozen=True)
class Comparison:
    """Pairs in the order of the new report, unpaired results, and notes on both runs."""

    pairs: list[Pair]
    only_old: list[Result]
    only_new: list[Result]
    threshold: float
    notes: list[str]

    @property
    def regressions(self) -> list[Pair]:
        """Pairs whose new result is slower, or no longer correct."""
        return [pair for pair in self.pairs if pair.regression]


def compare(
    old: Report, new: Report, threshold: float | None = None, other_device: bool = False
) -> Comparison:
    """Compare results of ``new`` with the results of ``old`` that have the same key.

    ``threshold`` is a fraction, 0.05 for 5 %; None selects the device's in :data:`THRESHOLDS`.
    Results that are n/a count as absent. Results of different networks, or with different FLOPs or
    bytes, are not comparable, because many networks have a "conv2_1". Raises ``ValueError`` for
    reports of different kinds, of different devices (unless ``other_device``), or without a common
    result.
    """
    if threshold is None:
        threshold = max(THRESHOLDS[old.device_kind], THRESHOLDS[new.device_kind])
    if not 0 <= threshold < math.inf:
        raise ValueError(f"threshold: expected 0 or more, got {threshold}")
    if old.kind != new.kind:
        raise ValueError(f"expected two reports of one kind, got {old.kind} and {new.kind}")
    if (old.device_kind, old.device) != (new.device_kind, new.device) and not other_device:
        raise ValueError(
            f"expected two reports of one device, got {old.device} and {new.device}; "
            "--other-device compares them nevertheless"
        )
    before, after = _present(old), _present(new)
    shared = [key for key in after if key in before]
    if not shared:
        raise ValueError(f"expected a result with the same {', '.join(KEY)} in both reports")
    networks = _other_networks(old, new)
    return Comparison(
        pairs=[_pair(before[key], after[key], threshold, networks) for key in shared],
        only_old=[result for key, result in before.items() if key not in after],
        only_new=[result for key, result in after.items() if key not in before],
        threshold=threshold,
        notes=[
            plain(note)
            for note in [
                *_notes(old, new, threshold),
                *_other_ways([(before[key], after[key]) for key in shared]),
            ]
        ],
    )


def _present(report: Report) -> dict[Key, Result]:
    return {result.key: result for result in report.results if result.status != "n/a"}


def _other_networks(old: Report, new: Report) -> str | None:
    """Return both networks if they differ; files are compared by name without folder."""
    names = [report.settings.get("network") for report in (old, new)]
    if not all(isinstance(name, str) and name for name in names):
        return None
    before, after = (PurePath(str(name)).name for name in names)
    return None if before == after else f"networks: {before}, then {after}"


def _other_work(old: Result, new: Result) -> str | None:
    for name in ("flops", "bytes"):
        a, b = getattr(old, name), getattr(new, name)
        if a is not None and b is not None and not math.isclose(a, b, rel_tol=1e-9):
            return f"{name}: {a:.6g}, then {b:.6g}"
    return None


def _pair(old: Result, new: Result, threshold: float, networks: str | None) -> Pair:
    if (why := networks or _other_work(old, new)) is not None:
        return Pair(old, new, None, None, "not comparable", why)
    if old.status != "ok" or new.status != "ok":
        verdict: Verdict = "not measured"
        if old.status != new.status and "ok" in (old.status, new.status):
            verdict = "broken" if old.status == "ok" else "mended"
        return Pair(old, new, None, None, verdict)
    if old.median_s is None or new.median_s is None:
        differ = old.counters != new.counters
        return Pair(old, new, None, None, "counters differ" if differ else "same")
    (old_low, old_high), (new_low, new_high) = interval(old), interval(new)
    ratio = new.median_s / old.median_s
    between = math.log1p(threshold)
    up = math.hypot(math.log(old_high / old.median_s), math.log(new.median_s / new_low), between)
    down = math.hypot(math.log(old.median_s / old_low), math.log(new_high / new.median_s), between)
    limit = math.exp(up)
    verdict = "slower" if ratio > limit else "faster" if ratio < math.exp(-down) else "same"
    return Pair(old, new, ratio, limit, verdict)


def interval(result: Result) -> tuple[float, float]:
    """Return the 95 % interval of the median, widened if there are few samples."""
    assert result.median_s is not None
    assert result.confidence_s is not None
    median, (low, high) = result.median_s, result.confidence_s
    factor = FEW.get(result.samples or 0, 1.0)
    low, high = min(low, median / factor), max(high, median * factor)
    return max(low, SHORTEST_S), high


def _notes(old: Report, new: Report, threshold: float) -> Iterator[str]:
    for name, report in (("old", old), ("new", new)):
        if report.interrupted:
            yield f"the {name} run was interrupted and is incomplete"
    if old.device != new.device:
        yield f"different devices: {old.device}, then {new.device}"
    for name in sorted(old.ceilings.keys() & new.ceilings.keys()):
        ratio = new.ceilings[name].median_s / old.ceilings[name].median_s
        same = old.ceilings[name].shape == new.ceilings[name].shape
        if same and not 1 / (1 + threshold) <= ratio <= 1 + threshold:
            yield (
                f"the machine's speed differs: {name} took {ratio:.2f} times as long in the new run"
            )
    for name in sorted(old.versions.keys() & new.versions.keys()):
        if old.versions[name] != new.versions[name]:
            yield f"{name} {old.versions[name]}, then {new.versions[name]}"
    if (old.driver or "") != (new.driver or ""):
        yield f"driver {old.driver}, then {new.driver}"


def _other_ways(pairs: list[tuple[Result, Result]]) -> list[str]:
    """Return notes on programs that were called differently, such as without a CUDA graph."""
    found = [
        f"{new.peer}: {old.how}, then {new.how}"
        for old, new in pairs
        if old.how and new.how and old.how != new.how
    ]
    return list(dict.fromkeys(found))
