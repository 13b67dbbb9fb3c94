"""Faults planted in the convolution of sm_90a with swapped operands.

A block, or the two of a cluster, compute several tiles of 64 channels, cut off below and at the
right, of less than eight images. Every stage is filled again.
"""

from __future__ import annotations

import re

from support.mutants.cases import Case
from support.mutants.edits import (
    AGAIN,
    ARRIVALS,
    COPY,
    DEADLOCK,
    FLIGHT,
    NO_BARRIER,
    NO_SYNCWARP,
    OUTSIDE,
    RACE,
    RANK,
    TOO_EARLY,
    UNWRITTEN,
    USED,
    WRONG,
    Edit,
    Mutant,
    deletes,
    does_not_wait,
    each,
    is_true,
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

SHAPE = (3, 3, 15, 64, 128)
ROWS2 = Case("conv3x3", SHAPE, arch="sm_90a", sm_count=1, variant="swap_ab_rows2")
POOL = Case("conv3x3", SHAPE, pool=True, arch="sm_90a", sm_count=1, variant="swap_ab_rows2")
PAIR = Case("conv3x3", SHAPE, arch="sm_90a", sm_count=2, variant="swap_ab_rows2_c2")
ROWS1 = Case("conv3x3", (3, 2, 29, 64, 128), arch="sm_90a", sm_count=1, variant="swap_ab_rows1")

SPLIT = Case(
    "conv3x3", (3, 2, 14, 128, 128), arch="sm_90a", sm_count=2, variant="swap_ab_rows2_split2"
)


def sees_the_pixel_before(text: Text) -> None:
    """Tap (0, 1) starts a group further, of 64 units."""
    for offset in text.find("add.s32", "tap_start"):
        if offset.operands[2] == "64":
            text.replace(offset, f"mov.b32 {offset.operands[0]}, {offset.operands[1]};")


def filters_of_the_first_part(text: Text) -> None:
    for load in text.find(COPY, "load_filters"):
        [coordinates] = re.findall(r"\{(.*?)\}", load.text)
        column = coordinates.split(",")[0].strip()
        text.replace(load, f"and.b32 {column}, {column}, {~64}; {load.text}")


def mutant(
    name: str, edit: Edit, *found: str, case: Case = ROWS2, only_races: bool = False
) -> Mutant:
    return Mutant(f"swap_ab-{name}", "sm90/swap_ab", case, edit, found, only_races=only_races)


MUTANTS = [
    mutant(
        "does-not-wait-for-launches",
        deletes("griddepcontrol.wait", "launches_wait"),
        TOO_EARLY,
    ),
    # The rings.
    mutant("does-not-wait-for-pixels", does_not_wait("pixels_full"), FLIGHT, UNWRITTEN),
    mutant("does-not-wait-for-filters", does_not_wait("filters_full"), FLIGHT, UNWRITTEN),
    mutant("refills-pixels-too-early", does_not_wait("pixels_empty"), ARRIVALS, *RACE),
    mutant(
        "gives-rows-back-too-early",
        deletes("wgmma.wait_group", "tap_before"),
        *RACE,
        case=ROWS1,
    ),
    mutant("keeps-filters", deletes("mbarrier.arrive", "release_filters"), DEADLOCK),
    mutant("keeps-rows", deletes("mbarrier.arrive", "release_pixels"), DEADLOCK, case=ROWS1),
    mutant(
        "keeps-the-last-stages",
        deletes("mbarrier.arrive", "release_last_filters", "release_last_pixels"),
        DEADLOCK,
    ),
    mutant("phase-of-pixels-stays", without_xor("next_pixels"), DEADLOCK, UNWRITTEN, *RACE),
    # The cluster.
    mutant(
        "refills-what-the-other-block-reads",
        does_not_wait("filters_empty"),
        ARRIVALS,
        "more than expected",
        *RACE,
        case=PAIR,
    ),
    mutant(
        "gives-back-to-itself",
        keeps("mapa", 1, "release_address"),
        ARRIVALS,
        DEADLOCK,
        *RACE,
        case=PAIR,
    ),
    mutant("descriptors-with-a-rank", unmasked_addresses, RANK, case=PAIR),
    mutant(
        "ends-before-the-other-block",
        does_not_wait("last_releases"),
        "may still access its shared memory",
        "which has ended",
        case=PAIR,
    ),
    mutant(
        "fetches-a-missing-map",
        deletes("bra", "prefetch_y"),
        "that are not a tensor map",
        case=SPLIT,
    ),
    # Products.
    mutant("without-wgmma-fence", deletes("wgmma.fence", "wgmma_fence"), "without a"),
    mutant("does-not-wait-for-the-last-tap", deletes("wgmma.wait_group", "last_tap"), USED, *RACE),
    mutant("adds-to-the-tile-before", is_true("setp.ne.b32", "wgmma"), WRONG),
    mutant("sees-the-pixel-before", sees_the_pixel_before, WRONG),
    mutant("loads-another-image", moves_boxes(1, "load_pixels"), WRONG),
    mutant("loads-one-row-off", moves_boxes(3, "load_pixels"), WRONG, case=ROWS1),
    # Results.
    mutant("writes-what-a-copy-reads", deletes("cp.async.bulk.wait_group", "buffer_free"), *RACE),
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
    mutant("without-swizzle", without_xor("write_results"), WRONG),
    mutant("without-transposition", replaces("stmatrix", r"\.trans", "", "write_results"), WRONG),
    mutant("bias-of-another-channel", replaces("ld.global", r"\+32\]", "]", "bias_load"), WRONG),
    mutant(
        "sums-of-images-that-are-not",
        each("setp.ge.s32", "inside_batch", by=lambda s: f"setp.ne.u32 {s.operands[0]}, 0, 0;"),
        *OUTSIDE,
        AGAIN,
        case=SPLIT,
    ),
    mutant("sums-of-the-first-part", is_zero("cvt.u64.u32", "split_image"), AGAIN, case=SPLIT),
    mutant("filters-of-the-first-part", filters_of_the_first_part, WRONG, case=SPLIT),
    mutant("pools-columns-alone", keeps("max.NaN.f32", 1, "pool_window"), WRONG, case=POOL),
]

HARMLESS = [
    mutant("waits-for-every-tap", with_operand("wgmma.wait_group", 0, "0", "tap_before")),
    mutant("two-wgmma-fences", twice("wgmma.fence", "wgmma_fence"), case=PAIR),
    mutant(
        "waits-for-every-subtile",
        with_operand("cp.async.bulk.wait_group", 0, "0", "buffer_free"),
    ),
]
