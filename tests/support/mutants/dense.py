"""Faults planted in the dense layers of sm_90a: barriers, fences, waits and addresses."""

from __future__ import annotations

from support.mutants.cases import Case
from support.mutants.edits import (
    ARRIVALS,
    DEADLOCK,
    EXPECT,
    FLIGHT,
    NO_BARRIER,
    RACE,
    RANK,
    TOO_EARLY,
    UNWRITTEN,
    WRONG,
    Edit,
    Mutant,
    deletes,
    does_not_wait,
    is_zero,
    keeps,
    moves_boxes,
    replaces,
    twice,
    unmasked_addresses,
    with_operand,
    without_xor,
)
from support.mutants.ptx_text import Text

# Fourteen steps of two tiles, the second cut off, in a ring of six stages.
RING = Case("linear", (7, 840, 138), arch="sm_90a", sm_count=1)
# Four splits, a cluster of blocks for each of two tiles.
SPLIT = Case("linear", (7, 256, 136), arch="sm_90a")


def one_split_twice(text: Text) -> None:
    """The third split is added twice, the second never."""
    second = text.find("mapa", "load_sums")[1]
    to, at, _ = second.operands
    text.replace(second, f"{second.opcode} {to}, {at}, 2;")


def two_warps_write_the_same_features(text: Text) -> None:
    """Warps 2 and 3 of a warpgroup write the features of warps 0 and 1."""
    rows = text.find("and.b32", "first_sum")
    [first_row] = [row for row in rows if row.operands[2] == "48"]
    to, warp, _ = first_row.operands
    text.replace(first_row, f"{first_row.opcode} {to}, {warp}, 16;")


def stores_beyond_the_last_feature(text: Text) -> None:
    for compare in text.find("setp.", "inside_features"):
        to = compare.operands[0]
        value = 0 if compare.opcode.startswith(("setp.lt", "setp.gt")) else 1
        text.replace(compare, f"setp.eq.u32 {to}, {value}, 0;")


def mutant(
    name: str, edit: Edit, *found: str, case: Case = RING, only_races: bool = False
) -> Mutant:
    return Mutant(f"dense-{name}", "sm90/dense", case, edit, found, only_races=only_races)


PAST = " past its "

MUTANTS = [
    # The ring. A stage refilled too early may also end a phase before a consumer sees it.
    mutant("does-not-wait-for-stages", does_not_wait("stage_full"), FLIGHT, UNWRITTEN),
    mutant("refills-too-early", does_not_wait("stage_empty"), ARRIVALS, *RACE),
    mutant(
        "expects-few-bytes",
        with_operand(EXPECT, 2, "128", "stage_expect"),
        "more than expected",
    ),
    mutant(
        "waits-for-one-warpgroup",
        with_operand("mbarrier.init", 1, "4", "stage_arrivals+empty_arrivals"),
        DEADLOCK,
        ARRIVALS,
        *RACE,
    ),
    mutant("gives-back-too-early", deletes("wgmma.wait_group", "step_before"), *RACE),
    mutant("keeps-stages", deletes("mbarrier.arrive", "release_stage"), DEADLOCK),
    mutant("waits-for-the-phase-before", without_xor("stage_empty"), ARRIVALS, DEADLOCK, *RACE),
    mutant(
        "without-mbarrier-fence",
        deletes("fence.mbarrier_init", "barriers_made"),
        "without a fence.mbarrier_init or fence.proxy.async in between",
        only_races=True,
    ),
    mutant(
        "without-syncthreads",
        deletes("bar.sync", "block_sync"),
        NO_BARRIER,
        "that is not initialised",
    ),
    mutant(
        "does-not-wait-for-launches", deletes("griddepcontrol.wait", "launches_wait"), TOO_EARLY
    ),
    # Products.
    mutant("without-wgmma-fence", deletes("wgmma.fence", "wgmma_fence"), "without a wgmma.fence"),
    mutant("without-commit", deletes("wgmma.commit_group", "wgmma_commit"), *RACE),
    mutant(
        "does-not-wait-for-the-last-step",
        deletes("wgmma.wait_group", "last_step"),
        "that a wgmma.mma_async in flight uses",
    ),
    mutant("starts-over-in-each-step", with_operand("setp.ne.b32", 1, "0", "wgmma"), WRONG),
    mutant("loads-weights-one-feature-off", moves_boxes(1, "load_weights"), WRONG),
    mutant("loads-images-one-column-off", moves_boxes(0, "load_images"), WRONG),
    mutant("splits-have-the-same-columns", is_zero("mul.lo.s32", "split_begin"), WRONG, case=SPLIT),
    # Sums of splits.
    mutant("sums-over-stages", deletes("barrier.sync", "products_done"), *RACE),
    mutant(
        "adds-too-early",
        deletes("barrier.cluster", "sums_written"),
        *RACE,
        UNWRITTEN,
        "which has ended",
        case=SPLIT,
    ),
    mutant(
        "ends-too-early",
        deletes("barrier.cluster", "last_sync"),
        "may still access its shared memory",
        "which has ended",
        case=SPLIT,
    ),
    mutant(
        "adds-after-a-relaxed-barrier",
        replaces("barrier.cluster.arrive", "release", "relaxed", "sums_written"),
        *RACE,
        UNWRITTEN,
        case=SPLIT,
        only_races=True,
    ),
    mutant(
        "ends-after-a-relaxed-barrier",
        replaces("barrier.cluster.arrive", "release", "relaxed", "last_sync"),
        "may still access its shared memory",
        case=SPLIT,
        only_races=True,
    ),
    mutant("descriptors-with-a-rank", unmasked_addresses, RANK, case=SPLIT),
    mutant("one-split-twice", one_split_twice, WRONG, case=SPLIT),
    mutant(
        "two-warps-write-the-same-features",
        two_warps_write_the_same_features,
        NO_BARRIER,
        UNWRITTEN,
    ),
    # Results.
    mutant(
        "bias-of-other-features", replaces("ld.global", r"\]", "+16]", "bias_load"), WRONG, PAST
    ),
    mutant("without-relu", keeps("max.NaN.f32", 1, "relu"), WRONG),
    mutant(
        "stores-beyond-the-last-feature",
        stores_beyond_the_last_feature,
        "was already written",
        "wrote too",
        PAST,
    ),
]

HARMLESS = [
    mutant("waits-for-every-step", with_operand("wgmma.wait_group", 0, "0", "step_before")),
    mutant("two-wgmma-fences", twice("wgmma.fence", "wgmma_fence")),
    mutant("two-named-barriers", twice("barrier.sync", "products_done")),
    # A block of its own cluster: the barrier is one of its own threads.
    mutant("ends-without-a-barrier", deletes("barrier.cluster", "last_sync")),
]
