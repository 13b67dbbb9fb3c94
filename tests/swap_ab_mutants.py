"""Faults planted in the swapped convolution of sm_90a: halo_mutants.py, of its own lines.

A block, or the two of a cluster, compute several tiles of 64 channels, cut off below and at the
right, of less than eight images. Every stage is filled again.
"""

from __future__ import annotations

import re

from halo_mutants import (
    ARRIVALS,
    DEADLOCK,
    FLIGHT,
    RACE,
    TOO_EARLY,
    UNWRITTEN,
    USED,
    does_not_wait,
    is_true,
    twice,
    with_operand,
    without_xor,
)
from mutants import (
    AGAIN,
    NO_BARRIER,
    NO_SYNCWARP,
    OUTSIDE,
    WRONG,
    Case,
    Edit,
    Mutant,
    Text,
    deletes,
)

SHAPE = (3, 3, 15, 64, 128)
ROWS2 = Case("conv3x3", SHAPE, arch="sm_90a", sm_count=1, variant="swap_ab_rows2")
POOL = Case("conv3x3", SHAPE, pool=True, arch="sm_90a", sm_count=1, variant="swap_ab_rows2")
PAIR = Case("conv3x3", SHAPE, arch="sm_90a", sm_count=2, variant="swap_ab_rows2_c2")
ROWS1 = Case("conv3x3", (3, 2, 29, 64, 128), arch="sm_90a", sm_count=1, variant="swap_ab_rows1")

SPLIT = Case(
    "conv3x3", (3, 2, 14, 128, 128), arch="sm_90a", sm_count=2, variant="swap_ab_rows2_split2"
)

CUH, PIPELINE = "kernels/sm90/swap_ab.cuh", "kernels/sm90/pipeline.cuh"
PIXELS_ARE_FREE = (CUH, "ptx::mbarrier_wait(smem + Tile::PIXELS_EMPTY_AT")
FILTERS_ARE_FREE = (PIPELINE, "ptx::mbarrier_wait(smem + Tile::FILTERS_EMPTY_AT")
LOAD_PIXELS = (CUH, "ptx::tma_load_4d(smem + Tile::PIXELS_AT")
PIXELS_ARE_THERE = (CUH, "ptx::mbarrier_wait(smem + Tile::PIXELS_FULL_AT")
FILTERS_ARE_THERE = (CUH, "ptx::mbarrier_wait(smem + Tile::FILTERS_FULL_AT")
NEXT_PIXELS = (CUH, "pixels.advance();")
TAP_START = (CUH, "b_low + stage[box] * (Tile::PIXEL_BYTES / UNIT)")
TAP_BEFORE = (CUH, "ptx::wgmma_wait<1>();  // all but this tap's")
KEEP_PIXELS = (CUH, "if ((tap + TAPS - 1) % TAPS >= TAPS - Tile::BOXES)")
ALL_TAPS = (CUH, "ptx::wgmma_wait<0>();")
BUFFER_IS_FREE = (CUH, "if (leads) ptx::bulk_wait_read<Tile::PIECES - 1>();")
WRITE_GROUP = (CUH, "write_group<T>(v, bias, least, buffer + i")
PIECE_IS_WRITTEN = (CUH, "ptx::fence_proxy_async();")
ALL_IS_READ = (CUH, "if (leads) ptx::bulk_wait_read<0>();")


def moves_boxes(file: str, marker: str, which: int) -> Edit:
    """One further along a dimension: channels, images, columns, lines."""

    def edit(text: Text) -> None:
        for copy in text.find("cp.async.bulk.tensor", file, marker):
            [coordinates] = re.findall(r"\{(.*?)\}", copy.text)
            at = coordinates.split(",")[which].strip()
            text.replace(copy, f"add.s32 {at}, {at}, 1; {copy.text}")

    return edit


def sees_the_pixel_before(text: Text) -> None:
    """Tap (0, 1) starts a group further, of 64 units."""
    for offset in text.find("add.s32", *TAP_START):
        if offset.operands[2] == "64":
            text.replace(offset, f"mov.b32 {offset.operands[0]}, {offset.operands[1]};")


def keeps_matrices_as_they_are(text: Text) -> None:
    for store in text.find("stmatrix", *WRITE_GROUP):
        text.replace(store, store.text.replace(".trans", ""))


def pools_columns_alone(text: Text) -> None:
    for most in text.find("max.NaN.f32", CUH, "v[j] = smxx::max_nan(smxx::max_nan(at[j]", lines=2):
        text.replace(most, f"mov.f32 {most.operands[0]}, {most.operands[1]};")


def bias_of_the_row_above(text: Text) -> None:
    """Channels 8 .. 15 of a warp have that of its channels 0 .. 7."""
    for load in text.find("ld.global", CUH, "const float bias[2] = {biases[0], biases[8]};"):
        if "+32]" in load.text:
            text.replace(load, load.text.replace("+32]", "]"))


def arrives_twice_at_this_block(text: Text) -> None:
    """And never at the other one."""
    for address in text.find("mapa", PIPELINE, "cluster_smem_ = ptx::cluster_address("):
        text.replace(address, f"mov.b32 {address.operands[0]}, {address.operands[1]};")


def sums_of_images_that_are_not(text: Text) -> None:
    for outside in text.find("setp.ge.s32", CUH, "if (n >= p.N) continue;"):
        text.replace(outside, f"setp.ne.u32 {outside.operands[0]}, 0, 0;")


def sums_of_the_first_part(text: Text) -> None:
    for block in text.find("cvt.u64.u32", CUH, "static_cast<int64_t>(blockIdx.y) * p.N + n;"):
        text.replace(block, f"mov.u64 {block.operands[0]}, 0;")


def filters_of_the_first_part(text: Text) -> None:
    for load in text.find("cp.async.bulk.tensor", PIPELINE, "ptx::tma_load_2d(to, &p.w"):
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
        deletes("griddepcontrol.wait", CUH, "ptx::griddepcontrol_wait();"),
        TOO_EARLY,
    ),
    # The rings.
    mutant("does-not-wait-for-pixels", does_not_wait(*PIXELS_ARE_THERE), FLIGHT, UNWRITTEN),
    mutant("does-not-wait-for-filters", does_not_wait(*FILTERS_ARE_THERE), FLIGHT, UNWRITTEN),
    mutant("refills-pixels-too-early", does_not_wait(*PIXELS_ARE_FREE), ARRIVALS, *RACE),
    mutant(
        "gives-rows-back-too-early",
        deletes("wgmma.wait_group", *TAP_BEFORE),
        *RACE,
        case=ROWS1,
    ),
    mutant("keeps-filters", deletes("mbarrier.arrive", *TAP_BEFORE, lines=2), DEADLOCK),
    mutant("keeps-rows", deletes("mbarrier.arrive", *KEEP_PIXELS), DEADLOCK, case=ROWS1),
    mutant("keeps-the-last-stages", deletes("mbarrier.arrive", *ALL_TAPS, lines=4), DEADLOCK),
    mutant("parity-of-pixels-stays", without_xor(*NEXT_PIXELS), DEADLOCK, UNWRITTEN, *RACE),
    # The cluster.
    mutant(
        "refills-what-the-other-block-reads",
        does_not_wait(*FILTERS_ARE_FREE),
        ARRIVALS,
        "more than expected",
        *RACE,
        case=PAIR,
    ),
    mutant(
        "gives-back-to-itself", arrives_twice_at_this_block, ARRIVALS, DEADLOCK, *RACE, case=PAIR
    ),
    # Products.
    mutant("without-wgmma-fence", deletes("wgmma.fence", CUH, "ptx::wgmma_fence();"), "without a"),
    mutant("does-not-wait-for-the-last-tap", deletes("wgmma.wait_group", *ALL_TAPS), USED, *RACE),
    mutant("adds-to-the-tile-before", is_true("setp.ne.b32", CUH, "ptx::wgmma<T>(acc,"), WRONG),
    mutant("sees-the-pixel-before", sees_the_pixel_before, WRONG),
    mutant("loads-another-image", moves_boxes(*LOAD_PIXELS, 1), WRONG),
    mutant("loads-one-row-off", moves_boxes(*LOAD_PIXELS, 3), WRONG, case=ROWS1),
    # Results.
    mutant("writes-what-a-copy-reads", deletes("cp.async.bulk.wait_group", *BUFFER_IS_FREE), *RACE),
    mutant(
        "pieces-without-proxy-fence",
        deletes("fence.proxy.async", *PIECE_IS_WRITTEN),
        "through the async proxy",
        only_races=True,
    ),
    mutant(
        "pieces-without-second-barrier",
        deletes("barrier.sync", *PIECE_IS_WRITTEN, lines=2),
        NO_BARRIER,
        NO_SYNCWARP,
        UNWRITTEN,
    ),
    mutant(
        "without-bulk-commit",
        deletes("cp.async.bulk.commit_group", CUH, "ptx::bulk_commit();"),
        *RACE,
    ),
    mutant(
        "exits-before-its-copies",
        deletes("cp.async.bulk.wait_group", *ALL_IS_READ),
        "exits with a bulk store that it has not waited for",
    ),
    mutant("without-swizzle", without_xor(*WRITE_GROUP), WRONG),
    mutant("without-transposition", keeps_matrices_as_they_are, WRONG),
    mutant("bias-of-another-channel", bias_of_the_row_above, WRONG),
    mutant("sums-of-images-that-are-not", sums_of_images_that_are_not, *OUTSIDE, AGAIN, case=SPLIT),
    mutant("sums-of-the-first-part", sums_of_the_first_part, AGAIN, case=SPLIT),
    mutant("filters-of-the-first-part", filters_of_the_first_part, WRONG, case=SPLIT),
    mutant("pools-columns-alone", pools_columns_alone, WRONG, case=POOL),
]

HARMLESS = [
    mutant("waits-for-every-tap", with_operand("wgmma.wait_group", *TAP_BEFORE, 0, "0")),
    mutant("two-wgmma-fences", twice("wgmma.fence", CUH, "ptx::wgmma_fence();"), case=PAIR),
    mutant(
        "waits-for-every-piece",
        with_operand("cp.async.bulk.wait_group", *BUFFER_IS_FREE, 0, "0"),
    ),
]
