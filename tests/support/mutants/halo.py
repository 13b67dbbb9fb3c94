"""Faults planted in the halo convolution of sm_90a: barriers, fences, waits and addresses.

The cases have 64 channels: three steps of a tile, in two stages of pixels; nine taps of it, in five
stages of filters. Every stage is filled again.
"""

from __future__ import annotations

from support.mutants.cases import Case
from support.mutants.edits import (
    ANY_RACE,
    ARRIVALS,
    DEADLOCK,
    EXPECT,
    FLIGHT,
    NO_BARRIER,
    NO_SYNCWARP,
    RACE,
    TOO_EARLY,
    UNWRITTEN,
    USED,
    WRONG,
    Edit,
    Mutant,
    deletes,
    does_not_wait,
    is_true,
    keeps,
    moves_boxes,
    other_bias,
    twice,
    with_operand,
    without_xor,
)
from support.mutants.ptx_text import Text

# Two slabs, cut off below and at the right: one for each warpgroup. Two tiles of them in one block.
HALO = Case("conv3x3", (1, 10, 12, 64, 64), arch="sm_90a")
TILES = Case("conv3x3", (2, 10, 12, 64, 64), arch="sm_90a", sm_count=1)
POOL = Case("conv3x3", (1, 10, 12, 64, 64), pool=True, arch="sm_90a")


def last_row_of_the_filter_sees_the_line_before(text: Text) -> None:
    offsets = text.find("or.b32", "tap_start")
    [offset] = [offset for offset in offsets if offset.operands[2] == "2048"]
    text.replace(offset, offset.text.replace("2048", "1024"))


def transposes_the_filter(text: Text) -> None:
    taps = text.find("mad.lo.s32", "filter_column")
    [tap] = [tap for tap in taps if tap.operands[2] == "3"]
    to, r, _, s = tap.operands
    text.replace(tap, f"{tap.opcode} {to}, {s}, 3, {r};")


def mutant(
    name: str, edit: Edit, *found: str, case: Case = HALO, only_races: bool = False
) -> Mutant:
    return Mutant(f"halo-{name}", "sm90/halo", case, edit, found, only_races=only_races)


MUTANTS = [
    # The rings. A stage refilled too early may also end a phase before a consumer sees it.
    mutant("does-not-wait-for-pixels", does_not_wait("pixels_full"), FLIGHT, UNWRITTEN),
    mutant("does-not-wait-for-filters", does_not_wait("filters_full"), FLIGHT, UNWRITTEN),
    mutant("refills-pixels-too-early", does_not_wait("pixels_empty"), ARRIVALS, *RACE),
    mutant("refills-filters-too-early", does_not_wait("filters_empty"), ARRIVALS, *RACE),
    mutant(
        "expects-few-pixels", with_operand(EXPECT, 2, "128", "pixels_expect"), "more than expected"
    ),
    mutant(
        "expects-few-filters",
        with_operand(EXPECT, 2, "128", "filters_expect"),
        "more than expected",
    ),
    mutant(
        "waits-for-one-warpgroup",
        with_operand("mbarrier.init", 1, "4", "pixels_arrivals+empty_arrivals"),
        DEADLOCK,
        ARRIVALS,
        *RACE,
    ),
    mutant("gives-back-too-early", deletes("wgmma.wait_group", "tap_before"), *RACE),
    mutant("keeps-filters", deletes("mbarrier.arrive", "release_filters"), DEADLOCK),
    mutant("keeps-pixels", deletes("mbarrier.arrive", "release_pixels"), DEADLOCK),
    mutant(
        "keeps-the-last-stages",
        deletes("mbarrier.arrive", "release_last_filters", "release_last_pixels"),
        DEADLOCK,
        case=TILES,
    ),
    mutant(
        "phase-of-pixels-stays",
        without_xor("next_pixels"),
        DEADLOCK,
        UNWRITTEN,
        *RACE,
    ),
    mutant("waits-for-stages-never-filled", without_xor("pixels_empty"), DEADLOCK),
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
        "wants-too-many-registers",
        with_operand("setmaxnreg.dec", 0, "48", "decrease_registers"),
        "waiting for registers (32 are free",
    ),
    # Products.
    mutant("without-wgmma-fence", deletes("wgmma.fence", "wgmma_fence"), "without a wgmma.fence"),
    mutant("without-commit", deletes("wgmma.commit_group", "wgmma_commit"), *RACE),
    mutant("does-not-wait-for-the-last-tap", deletes("wgmma.wait_group", "last_tap"), USED),
    mutant(
        "adds-to-the-tile-before",
        is_true("setp.ne.b32", "wgmma"),
        WRONG,
        case=TILES,
    ),
    mutant("reads-the-line-before", last_row_of_the_filter_sees_the_line_before, WRONG),
    mutant("transposes-the-filter", transposes_the_filter, WRONG),
    mutant("loads-one-pixel-off", moves_boxes(1, "load_pixels"), WRONG),
    # Results.
    mutant(
        "writes-what-a-copy-reads",
        deletes("cp.async.bulk.wait_group", "buffer_free"),
        *RACE,
    ),
    mutant(
        "subtiles-without-first-barrier",
        deletes("barrier.sync", "before_results"),
        FLIGHT,
        *ANY_RACE,
    ),
    mutant(
        "subtiles-without-proxy-fence",
        deletes("fence.proxy.async", "results_fence"),
        "through the async proxy",
        only_races=True,
    ),
    mutant(
        "subtiles-without-second-barrier",
        deletes("barrier.sync", "results_written"),
        NO_BARRIER,
        NO_SYNCWARP,
        UNWRITTEN,
    ),
    mutant(
        "without-bulk-commit",
        deletes("cp.async.bulk.commit_group", "commit_store"),
        *RACE,
    ),
    mutant(
        "exits-before-its-copies",
        deletes("cp.async.bulk.wait_group", "stores_read"),
        "exits with a bulk store that it has not waited for",
    ),
    mutant(
        "stores-one-pixel-off", moves_boxes(1, "store_results"), "bytes of out were never written"
    ),
    mutant("without-swizzle", without_xor("write_results"), WRONG),
    mutant("pooled-without-swizzle", without_xor("write_results"), WRONG, *ANY_RACE, case=POOL),
    mutant("bias-of-another-channel", other_bias("ld.global.v2.f32", 8, "bias_load"), WRONG),
    mutant("without-relu", keeps("max.NaN.f32", 1, "relu"), WRONG),
    mutant(
        "pools-the-wrong-lane",
        with_operand("shfl.sync.bfly", 2, "8", "pool_shuffle"),
        WRONG,
        case=POOL,
    ),
    # Launches before this one.
    mutant(
        "does-not-wait-for-launches",
        deletes("griddepcontrol.wait", "launches_wait"),
        TOO_EARLY,
    ),
]

HARMLESS = [
    mutant(
        "waits-for-every-tap",
        with_operand("wgmma.wait_group", 0, "0", "tap_before"),
        case=TILES,
    ),
    mutant("two-wgmma-fences", twice("wgmma.fence", "wgmma_fence")),
    mutant("two-proxy-fences", twice("fence.proxy.async", "results_fence")),
    mutant("two-named-barriers", twice("barrier.sync", "results_written")),
    mutant(
        "waits-for-every-subtile",
        with_operand("cp.async.bulk.wait_group", 0, "0", "buffer_free"),
        case=POOL,
    ),
    # No other block waits for these stages.
    mutant(
        "keeps-the-last-stages-of-the-only-tile",
        deletes("mbarrier.arrive", "release_last_filters", "release_last_pixels"),
    ),
]
