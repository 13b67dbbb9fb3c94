"""Faults planted in the real kernels are found, and changes that do no harm raise no alarm."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from support.mutants import cluster, dense, fused_conv1_block, gemm, halo, simple, swap_ab
from support.mutants.cases import Case
from support.mutants.edits import WRONG, Mutant
from support.ptx_programs import ORDER_IDS, ORDERS

from vgg_cuda import _C

pytestmark = pytest.mark.emulator

FILES = (gemm, simple, halo, cluster, swap_ab, dense, fused_conv1_block)
MUTANTS = [mutant for file in FILES for mutant in file.MUTANTS]
HARMLESS = [mutant for file in FILES for mutant in file.HARMLESS]
CASES = {mutant.case: None for mutant in (*MUTANTS, *HARMLESS)}


@cache
def text_of(mutant: Mutant) -> str:
    return mutant.text()


def detections(mutant: Mutant, **options: bool) -> dict[str, str | None]:
    """By order: the error's text, or WRONG; None where the mutant survives."""
    text = text_of(mutant)
    found: dict[str, str | None] = {}
    for order, (schedule, lazy) in zip(ORDER_IDS, ORDERS, strict=True):
        modules = {mutant.module: text}
        emulator = _C.Emulator(schedule=schedule, lazy=lazy, modules=modules, **options)
        try:
            y = mutant.case.run(emulator)
            found[order] = None if mutant.case.is_right(y) else WRONG
        except _C.EmulatorError as error:
            found[order] = str(error)
        print(f"{order}: {found[order]}")
    return found


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_the_kernels_themselves_are_right(case: Case) -> None:
    for schedule, lazy in ORDERS:
        y = case.run(_C.Emulator(schedule=schedule, lazy=lazy))
        assert case.is_right(y), (schedule, lazy)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_found_in_every_order(mutant: Mutant) -> None:
    kernel = mutant.kernel
    for order, what in detections(mutant).items():
        assert what is not None, f"{order}: survives"
        assert any(expected in what for expected in mutant.found), f"{order}: {what}"
        if "were never written" in what:  # nobody did that
            assert what.startswith(f"kernel {kernel}: "), what
        elif what != WRONG:  # the edited kernel is named, and lines of the project's sources
            assert what.startswith(f"kernel {kernel}: block "), what
            assert ".cu" in what, what


@pytest.mark.parametrize(
    "mutant", [m for m in MUTANTS if not m.only_races], ids=lambda mutant: mutant.name
)
def test_found_by_some_order_without_the_race_detector(mutant: Mutant) -> None:
    """By poisoned memory and by late or early copies.

    Some orders are blind then: with one instruction of each warp in turn (round_robin), the warps
    stay in step, and nobody misses the barriers of the main loops and of convert. Left out are
    fences between generic and asynchronous accesses: memory is the same for both here.
    """
    assert any(detections(mutant, races=False).values()), "survives"


@pytest.mark.parametrize("mutant", HARMLESS, ids=lambda mutant: mutant.name)
def test_harmless(mutant: Mutant) -> None:
    expected = mutant.case.run(_C.Emulator())
    text = text_of(mutant)
    for schedule, lazy in ORDERS:
        emulator = _C.Emulator(schedule=schedule, lazy=lazy, modules={mutant.module: text})
        y = mutant.case.run(emulator)
        np.testing.assert_array_equal(y.view(np.uint8), expected.view(np.uint8))


def test_enough_of_them() -> None:
    assert min(len(file.MUTANTS) for file in FILES) >= 5
    assert len(MUTANTS) >= 180
    assert len({mutant.name for mutant in (*MUTANTS, *HARMLESS)}) == len(MUTANTS) + len(HARMLESS)
    assert len({mutant.module for mutant in MUTANTS}) >= 5
