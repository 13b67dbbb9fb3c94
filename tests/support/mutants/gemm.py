"""Faults planted in the matrix products of sm_80, the first layer and the sum of splits."""

from __future__ import annotations

from support.mutants.cases import Case
from support.mutants.edits import (
    AGAIN,
    ANY_RACE,
    GROUP_FLIGHT,
    OUTSIDE,
    WRONG,
    Edit,
    Mutant,
    deletes,
    each,
    is_zero,
    keeps,
    other_bias,
    replaces,
    twice,
    with_operand,
    without_xor,
)
from support.mutants.ptx_text import Statement, Text, tagged_lines

CONV = Case("conv3x3", (1, 8, 8, 64, 64))  # nine steps, one block
RAGGED = Case("conv3x3", (1, 7, 5, 16, 72))  # rows and channels beyond the matrix, in two tiles
POOL = Case("conv3x3", (1, 8, 8, 16, 64), pool=True)
GATHER = Case("conv3x3", (1, 8, 8, 5, 64))
FLOATS = Case("conv3x3", (1, 8, 8, 16, 64), "float32")
FIRST = Case("conv3x3", (1, 8, 8, 3, 64))
SPLIT = Case("linear", (2, 2048, 64))
TF32 = Case("conv3x3", (1, 8, 8, 16, 64), "tf32")
FIRST_TF32 = Case("conv3x3", (1, 8, 8, 3, 64), "tf32")


def waits(change: int) -> Edit:
    """The main loop's wait leaves ``change`` more groups unfinished."""

    def edited(s: Statement) -> str:
        return f"cp.async.wait_group {max(int(s.operands[0]) + change, 0)};"

    return each("cp.async.wait_group", "gemm_wait", by=edited)


def ring_wraps(change: int) -> Edit:
    """The ring of stages wraps ``change`` stages later."""

    def edit(text: Text) -> None:
        for compare in text.find("setp.", "gemm_next_stage"):
            last = compare.operands[-1]
            changed = int(last) + change * text.stage_bytes
            text.replace(compare, compare.text.replace(last, str(changed)))

    return edit


def refill_too_early(text: Text) -> None:
    """The stage that is multiplied next is filled, not the stage that was multiplied before."""
    pending = int(text.find("cp.async.wait_group", "gemm_wait")[0].operands[0])
    last = str((pending + 1) * text.stage_bytes)
    starts = [s for s in text.find("mov.") if s.operands[-1] == last]
    assert len(starts) == 1, starts
    changed = str(pending * text.stage_bytes)
    text.replace(starts[0], starts[0].text.replace(last, changed))


def copies_everything(text: Text) -> None:
    """Copies read 16 bytes, inside the image or not."""
    for choice in text.find("selp.", "copy_pixels", "copy_rows"):
        if {*choice.operands[1:3]} == {"16", "0"}:
            text.replace(choice, f"mov.b32 {choice.operands[0]}, 16;")


def stores_without_a_test(text: Text) -> None:
    """Rows and channels beyond the last are stored, too."""
    for branch in text.find("bra"):
        if branch.text.startswith("@") and branch.places[0] in tagged_lines()["store_test"]:
            text.replace(branch, "")


def one_split_less(text: Text) -> None:
    """The last split is left out."""
    for load in text.find("ld.param.u32", "splits_loop"):
        text.append(load, f"add.s32 {load.operands[0]}, {load.operands[0]}, -1;")


def swaps_parts(i: int, j: int) -> Edit:
    """Registers i and j of operand A are swapped."""

    def edited(s: Statement) -> str:
        a = s.operands[1]
        parts = [part.strip() for part in a.strip("{}").split(",")]
        parts[i], parts[j] = parts[j], parts[i]
        return s.text.replace(a, "{" + ", ".join(parts) + "}")

    return each("mma.sync", by=edited)


def next_tap(text: Text) -> None:
    """The columns outside the image are taken from the next tap of the filter."""
    for mask in text.find("or.b32", "inside_columns"):
        text.append(mask, f"shl.b32 {mask.operands[0]}, {mask.operands[0]}, 1;")


def without_the_last_sums(text: Text) -> None:
    """The sums of the last few steps are not added."""
    products = {s.operands[0] for s in text.find("fma.rn.f32")}
    for add in text.find("add.f32", "gemm_last_sums"):
        a, b = add.operands[1:]  # one of them is the sum so far: no product writes to it
        text.replace(add, f"mov.f32 {add.operands[0]}, {b if a in products else a};")


F16, F32, TF32_MODULE = "sm80/gemm_f16", "sm80/gemm_f32", "sm80/gemm_tf32"


def mutant(
    name: str,
    edit: Edit,
    *found: str,
    case: Case = CONV,
    module: str = F16,
    launch: int = 0,
) -> Mutant:
    return Mutant(name, module, case, edit, found, launch)


WITHOUT_BARRIER = deletes("bar.sync", "gemm_barrier")
ROUNDING = "cvt.rna.tf32.f32"

MUTANTS = [
    mutant("main-loop-without-its-barrier", WITHOUT_BARRIER, *ANY_RACE),
    mutant(
        "main-loop-without-its-barrier-f32", WITHOUT_BARRIER, *ANY_RACE, case=FLOATS, module=F32
    ),
    mutant("gathered-rows-without-the-barrier", WITHOUT_BARRIER, *ANY_RACE, case=GATHER),
    mutant("waits-for-one-group-too-few", waits(1), GROUP_FLIGHT),
    mutant("does-not-wait", deletes("cp.async.wait_group", "gemm_wait"), GROUP_FLIGHT),
    mutant("does-not-commit", deletes("cp.async.commit_group", "gemm_commit"), GROUP_FLIGHT),
    mutant(
        "does-not-commit-at-first",
        deletes("cp.async.commit_group", "gemm_first_commit"),
        GROUP_FLIGHT,
    ),
    mutant("refills-one-step-too-early", refill_too_early, *ANY_RACE, WRONG),
    mutant("ring-wraps-late", ring_wraps(1), "outside the block's", GROUP_FLIGHT),
    mutant("ring-wraps-early", ring_wraps(-1), *ANY_RACE, WRONG),
    mutant("copies-from-outside-the-image", copies_everything, *OUTSIDE),
    mutant("a-without-swizzle", without_xor("swizzle+a_address"), WRONG),
    mutant("b-without-swizzle", without_xor("swizzle+b_address"), WRONG),
    mutant("bias-of-another-channel", other_bias("ld.global", 16, "bias_load"), WRONG, *OUTSIDE),
    mutant("without-relu", keeps("max.NaN.f32", 1, "relu"), WRONG),
    mutant(
        "pools-the-wrong-lane",
        with_operand("shfl.sync.bfly", 2, "8", "pool_shuffle"),
        WRONG,
        case=POOL,
    ),
    mutant(
        "writes-rows-beyond-the-last",
        stores_without_a_test,
        *OUTSIDE,
        case=Case("conv3x3", (1, 7, 5, 16, 64)),
    ),
    mutant(
        "writes-channels-beyond-the-last",
        stores_without_a_test,
        AGAIN,
        *OUTSIDE,
        case=Case("conv3x3", (1, 8, 8, 16, 72)),
    ),
    mutant("operands-swapped", swaps_parts(0, 1), WRONG),
    mutant("columns-swapped-tf32", swaps_parts(1, 3), WRONG, case=TF32, module=TF32_MODULE),
    mutant("does-not-round-x", keeps(ROUNDING, 1), WRONG, case=TF32, module=TF32_MODULE),
    mutant(
        "first-layer-does-not-round-x",
        keeps(ROUNDING, 1),
        WRONG,
        case=FIRST_TF32,
        module="sm80/first",
    ),
    mutant("ldmatrix-transposes", replaces("ldmatrix", r"\.shared", ".trans.shared"), WRONG),
    mutant("padding-of-the-next-tap", next_tap, WRONG, *OUTSIDE),
    mutant("drops-the-last-partial-sums", without_the_last_sums, WRONG, case=FLOATS, module=F32),
    mutant("splits-write-to-the-same-place", is_zero("mul.", "split_offset"), AGAIN, case=SPLIT),
    mutant(
        "drops-the-last-split", one_split_less, WRONG, case=SPLIT, module="sm80/reduce", launch=1
    ),
    mutant(
        "first-layer-without-its-barrier",
        deletes("bar.sync", "first_barrier"),
        *ANY_RACE,
        case=FIRST,
        module="sm80/first",
    ),
    mutant(
        "first-layer-does-not-wait",
        deletes("cp.async.wait_group", "first_wait"),
        GROUP_FLIGHT,
        case=FIRST,
        module="sm80/first",
    ),
]

HARMLESS = [
    mutant("two-barriers", twice("bar.sync", "gemm_barrier")),
    mutant("syncwarp", twice("bar.sync", "gemm_barrier", then="bar.warp.sync -1;")),
    mutant("waits-for-everything", waits(-9)),
    mutant(
        "commits-twice-at-the-end",
        twice(
            "cp.async.wait_group",
            "gemm_last_wait",
            then="cp.async.commit_group; cp.async.wait_all;",
        ),
    ),
]
