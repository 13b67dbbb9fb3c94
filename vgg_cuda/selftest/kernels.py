"""Parts of the self-test that launch single operations; they run in child processes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from .. import _C
from ..verification import Row
from .cases import Case, family_cases, plan, portable_cases, vgg16_cases
from .judging import Judge, differing
from .launches import Result, Target
from .operands import Operands, draw
from .tally import PORTABLE, Tally

REPEATS = 3  # of the larger cases on a GPU


def check(target: Target, tally: Tally) -> None:
    """Launch one small portable kernel, to see whether the device works."""
    _compare(target, tally, [Case("relu", (3, 40), "float16")], target.arch)


def maps(target: Target, tally: Tally) -> None:
    """Encode all tensor maps and look all kernels up, for VGG-16 and all other parts."""
    arch = target.arch
    everything = [*vgg16_cases(arch, target.dtypes), *_portable(target)]
    for family in arch.families:
        everything += family_cases(family, target.full, target.dtypes)
    for case in everything:
        found = plan(case, arch) if case.k else None
        with tally.case(case, PORTABLE if found is None else found.family):
            target.encode(case, arch)


def family(target: Target, tally: Tally, name: str) -> None:
    """Compare every variant of a family with float64, and with the portable kernels."""
    cases = family_cases(name, target.full, target.dtypes)
    _compare(target, tally, cases, target.full, name)


def portable(target: Target, tally: Tally) -> None:
    """Compare every operation on portable kernels with float64, and their variants."""
    _compare(target, tally, _portable(target), target.full.without(target.full.families))


def _portable(target: Target) -> Iterable[Case]:
    precisions = [*target.dtypes, "float32", "tf32"]
    return portable_cases(target.full.without(target.full.families), precisions)


def _compare(
    target: Target, tally: Tally, cases: Iterable[Case], arch: _C.Arch, name: str = PORTABLE
) -> None:
    judge, beside = Judge(), _Beside(target, arch.without(arch.families))
    repeats = 1 if target.backend.name == "emulator" else REPEATS
    for case in cases:
        if not case.exact:
            operands = draw(case)
            with tally.case(case, name):
                [result] = target.run(case, operands, arch)
                _judge(tally, name, case, judge.row(case, operands, result))
            continue
        operands, expected = beside.result(case)
        with tally.case(case, name):
            for result in target.run(case, operands, arch, repeats):
                if wrong := differing(result.y, expected.y):
                    detail = f"{wrong:,} of {result.y.size:,} elements differ from the result of "
                    tally.fail("wrong", [name], f"{case}: {detail}{expected.plan.kernel}")
                    break


def _judge(tally: Tally, name: str, case: Case, row: Row) -> None:
    tally.worst = max(tally.worst, row.of_bound)
    if row.verdict != "ok":
        worst = row.worst
        at = f", the worst at {list(worst.index)}: {worst.got:.6g}" if worst else ""
        at += f", expected {worst.expected:.6g}" if worst else ""
        bad = sum(row.counts.values())
        tally.fail("wrong", [name], f"{case}: {bad:,} of {row.elements:,} elements{at}")


class _Beside:
    """Results of the portable kernels for exact cases; the last result is kept."""

    def __init__(self, target: Target, arch: _C.Arch) -> None:
        self._target, self._arch = target, arch
        self._case: Case | None = None
        self._kept: tuple[Operands, Result] | None = None

    def result(self, case: Case) -> tuple[Operands, Result]:
        case = replace(case, variant=None)
        if self._kept is None or case != self._case:
            operands = draw(case)
            [result] = self._target.run(case, operands, self._arch)
            self._case, self._kept = case, (operands, result)
        return self._kept
