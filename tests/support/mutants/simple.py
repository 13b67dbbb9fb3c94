"""Faults planted in kernels that are no matrix products: softmax, convert, pools, affine maps."""

from __future__ import annotations

from support.mutants.cases import Case
from support.mutants.edits import ANY_RACE, OUTSIDE, WRONG, Edit, Mutant, deletes, replaces, twice
from support.mutants.ptx_text import Text

SOFTMAX = Case("softmax", (2, 1000))
CONVERT = Case("convert", (1, 40, 70))
BINS = Case("adaptive_maxpool", (1, 9, 5, 40, 4))  # 80 packs, a block of 128 threads
AFFINE = Case("affine", (1, 9, 5, 40))  # 225 packs, a block of 1024


def bins_without_their_last_pixel(text: Text) -> None:
    """A pixel that two bins share belongs to the second alone: ends are rounded down."""
    for end in text.find("add.s32", "bin_end"):
        if end.operands[-1] == "-1":
            text.replace(end, end.text.replace("-1", "-4"))  # grid - 1 less


def without_shift(text: Text) -> None:
    for fma in text.find("fma.rn.f32", "affine_fma"):
        text.replace(fma, f"mul.rn.f32 {', '.join(fma.operands[:3])};")


def mutant(name: str, module: str, case: Case, edit: Edit, *found: str) -> Mutant:
    return Mutant(name, f"smxx/{module}", case, edit, found)


MUTANTS = [
    mutant(
        "softmax-without-its-barrier",
        "softmax",
        SOFTMAX,
        deletes("bar.sync", "softmax_barrier"),
        *ANY_RACE,
    ),
    mutant(
        "convert-without-its-barrier",
        "convert",
        CONVERT,
        deletes("bar.sync", "convert_barrier"),
        *ANY_RACE,
    ),
    mutant(
        "pools-beyond-the-last-bin",
        "adaptive_maxpool",
        BINS,
        deletes("bra", "bins_guard"),
        *OUTSIDE,
    ),
    mutant(
        "maxima-of-zero",
        "adaptive_maxpool",
        BINS,
        replaces("mov.f32", "0fFF800000", "0f00000000", "maximum_start"),
        WRONG,
    ),
    mutant(
        "bins-without-their-last-pixel",
        "adaptive_maxpool",
        BINS,
        bins_without_their_last_pixel,
        WRONG,
    ),
    mutant(
        "affine-beyond-the-last-pack",
        "affine",
        AFFINE,
        deletes("bra", "affine_packs"),
        *OUTSIDE,
    ),
    mutant("affine-without-shift", "affine", AFFINE, without_shift, WRONG),
]

HARMLESS = [
    mutant("barrier-in-softmax", "softmax", SOFTMAX, twice("bar.sync", "softmax_barrier")),
]
