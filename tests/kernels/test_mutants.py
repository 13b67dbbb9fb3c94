"""Faults planted in the real kernels are found, and changes that do no harm raise no alarm."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import pytest
from support.mutants import cluster, dense, fused_conv1_block, gemm, halo, simple, swap_ab
from support.mutants.cases import Case
from support.mutants.edits import WRONG, Mutant
from support.ptx_programs import FAST_ORDERS, ORDERS, fast_and_other_orders

from vgg_cuda import _C

pytestmark = pytest.mark.emulator

FILES = (gemm, simple, halo, cluster, swap_ab, dense, fused_conv1_block)
MUTANTS = [mutant for file in FILES for mutant in file.MUTANTS]
HARMLESS = [mutant for file in FILES for mutant in file.HARMLESS]
CASES = {mutant.case: None for mutant in (*MUTANTS, *HARMLESS)}


each_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
each_mutant = pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)


@cache
def text_of(mutant: Mutant) -> str:
    return mutant.text()


def emulator(order: str, **options: Any) -> _C.Emulator:
    schedule, lazy = ORDERS[order]
    return _C.Emulator(schedule=schedule, lazy=lazy, **options)


def detections(mutant: Mutant, orders: Sequence[str], **options: bool) -> dict[str, str | None]:
    """Return the error's text, or WRONG, by order; None if the mutant survives."""
    text = text_of(mutant)
    found: dict[str, str | None] = {}
    for order in orders:
        try:
            y = mutant.case.run(emulator(order, modules={mutant.module: text}, **options))
            found[order] = None if mutant.case.is_right(y) else WRONG
        except _C.EmulatorError as error:
            found[order] = str(error)
        print(f"{order}: {found[order]}")
    return found


@fast_and_other_orders
@each_case
def test_unedited_kernels_are_right(case: Case, orders: list[str]) -> None:
    for order in orders:
        assert case.is_right(case.run(emulator(order))), order


@fast_and_other_orders
@each_mutant
def test_mutant_is_found(mutant: Mutant, orders: list[str]) -> None:
    kernel = mutant.kernel
    for order, what in detections(mutant, orders).items():
        assert what is not None, f"{order}: survives"
        assert any(expected in what for expected in mutant.found), f"{order}: {what}"
        if "were never written" in what:  # a missing write has no place
            assert what.startswith(f"kernel {kernel}: "), what
        elif what != WRONG:  # the edited kernel is named, and lines of the project's sources
            assert what.startswith(f"kernel {kernel}: block "), what
            assert ".cu" in what, what


@pytest.mark.parametrize(
    "mutant", [m for m in MUTANTS if not m.only_races], ids=lambda mutant: mutant.name
)
def test_mutant_is_found_without_race_detector(mutant: Mutant) -> None:
    """Poisoned memory and late or early copies show the fault in at least one order.

    Single orders miss some faults. With one instruction of each warp in turn (round_robin), for
    example, warps stay in step, and the barriers of main loops are not needed. Missing fences
    between generic and asynchronous accesses are left out: the emulator has one memory for both.
    """
    found = any(detections(mutant, FAST_ORDERS, races=False).values())
    assert found or any(detections(mutant, list(ORDERS), races=False).values()), "survives"


@fast_and_other_orders
@pytest.mark.parametrize("mutant", HARMLESS, ids=lambda mutant: mutant.name)
def test_harmless_edit_changes_no_bit(mutant: Mutant, orders: list[str]) -> None:
    expected = mutant.case.run(_C.Emulator())
    for order in orders:
        y = mutant.case.run(emulator(order, modules={mutant.module: text_of(mutant)}))
        np.testing.assert_array_equal(y.view(np.uint8), expected.view(np.uint8))


def test_mutants_are_many_and_varied() -> None:
    assert min(len(file.MUTANTS) for file in FILES) >= 5
    assert len(MUTANTS) >= 180
    assert len({mutant.name for mutant in (*MUTANTS, *HARMLESS)}) == len(MUTANTS) + len(HARMLESS)
    assert len({mutant.module for mutant in MUTANTS}) >= 5
