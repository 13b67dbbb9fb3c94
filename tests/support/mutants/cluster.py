"""Faults planted in the cooperation of two blocks of a cluster, and in the split sums, of the halo
convolution of sm_90a.
"""

from __future__ import annotations

import re

from support.mutants.cases import Case
from support.mutants.edits import (
    ARRIVALS,
    DEADLOCK,
    EXPECT,
    NO_BARRIER,
    RACE,
    RANK,
    TOO_EARLY,
    UNWRITTEN,
    WRONG,
    Edit,
    Mutant,
    all_of,
    deletes,
    does_not_wait,
    each,
    is_true,
    is_zero,
    keeps,
    replaces,
    unmasked_addresses,
    with_operand,
)
from support.mutants.ptx_text import Statement, Text

# Two tiles of 16 x 16 pixels, cut off: one for each block. Three units of them for one cluster.
PAIR = Case("conv3x3", (1, 20, 12, 64, 128), arch="sm_90a", variant="halo_m256n128_c2")
UNITS = Case("conv3x3", (3, 20, 12, 64, 128), arch="sm_90a", sm_count=2, variant=PAIR.variant)
# Pooled; the second block's tile lies beyond the last image.
HALF = Case("conv3x3", (1, 10, 12, 64, 128), pool=True, arch="sm_90a", variant=PAIR.variant)
# Two splits, of 128 and 64 channels; four slabs, cut off, in two images.
SPLIT = Case("conv3x3", (2, 9, 7, 192, 64), arch="sm_90a", variant="halo_m128n64_split2")
SPLIT_UNITS = Case(
    "conv3x3", (2, 9, 7, 192, 128), arch="sm_90a", sm_count=2, variant="halo_m128n128_split2"
)


def syncs_its_own_block(tag: str) -> Edit:
    """The barrier is the block's, not the cluster's."""
    return all_of(
        replaces("barrier.cluster.arrive", "^.*$", "bar.sync 0;", tag),
        deletes("barrier.cluster.wait", tag),
    )


def does_not_repeat(s: Statement) -> str | None:
    return "" if s.text.startswith("@") else None


def fence_at_the_start(text: Text) -> None:
    """The fence stands before all initialisations."""
    prefetch = text.find("prefetch.tensormap")[0]
    text.append(prefetch, "fence.mbarrier_init.release.cluster;")


def copies_to(blocks: str) -> Edit:
    return replaces("mov.u16", r"\d+;", f"{blocks};", "multicast")


def same_tile(text: Text) -> None:
    """Both blocks load and write the same tile of pixels."""
    keeps("or.b32", 1, "tile_of_block")(text)
    for insert in text.find("bfi.b32", "tile_of_block"):
        to, group, _, at, _ = insert.operands
        text.replace(insert, f"shl.b32 {to}, {group}, {at};")


def in_place_of_block_0(s: Statement) -> str:
    """Both halves of a stage of filters, of 8 KB each, go to the first one's place."""
    to = s.operands[0].strip("[]")
    return (
        "{ .reg .b32 place; mov.u32 place, %ctaid.x; and.b32 place, place, 1; "
        f"shl.b32 place, place, 13; sub.s32 place, {to}, place; "
        f"{s.text.replace(f'[{to}]', '[place]')} }}"
    )


def strides_by_blocks(text: Text) -> None:
    """The next unit is as many units further as there are blocks, not clusters."""
    for read in text.find("mov.u32"):
        if read.operands[1] == "%nctaid.x":
            text.append(read, f"shl.b32 {read.operands[0]}, {read.operands[0]}, 1;")


def loses_a_chunk(s: Statement) -> str:
    """The last 64 channels of every split are left out."""
    return f"{s.text} sub.s32 {s.operands[0]}, {s.operands[0]}, 64;"


def moves_channels(s: Statement) -> str | None:
    """Every second store writes to the place of the store before."""
    found = re.search(r"\+(\d+)\]", s.text)
    if not found or int(found[1]) % 64 != 32:
        return None
    return s.text.replace(f"+{found[1]}]", f"+{int(found[1]) - 32}]")


def swaps_lines(text: Text) -> None:
    stores = text.find("st.global", "store_sums")
    values = [store.operands[1] for store in stores]
    half = len(stores) // 2
    for store, value in zip(stores, values[half:] + values[:half], strict=True):
        text.replace(store, store.text.replace(store.operands[1], value))


def mutant(
    name: str, edit: Edit, *found: str, case: Case = PAIR, only_races: bool = False
) -> Mutant:
    return Mutant(f"cluster-{name}", "sm90/halo", case, edit, found, only_races=only_races)


ENDS = ("may still access its shared memory", "which has ended")
SUMS = ("bytes of workspace were never written", "already written", "wrote too", "past its")
UNMADE = ("that is not initialised", "initialised")

MUTANTS = [
    # Waits between the blocks.
    mutant("starts-without-the-other", syncs_its_own_block("first_sync"), *UNMADE),
    mutant("ends-without-the-other", does_not_wait("last_releases"), *ENDS),
    mutant("ends-with-the-next-stage", each("bra", "last_stages", by=does_not_repeat), *ENDS),
    # The relaxed barrier shows only what the fence has released.
    mutant(
        "barriers-without-a-fence",
        deletes("fence.mbarrier_init", "barriers_made"),
        NO_BARRIER,
        only_races=True,
    ),
    mutant(
        "fence-before-the-barriers",
        all_of(
            deletes("fence.mbarrier_init", "barriers_made"),
            fence_at_the_start,
        ),
        NO_BARRIER,
        only_races=True,
    ),
    mutant("descriptors-with-a-rank", unmasked_addresses, RANK),
    mutant("keeps-filters", deletes("mbarrier.arrive", "release_cluster"), DEADLOCK),
    mutant(
        "gives-back-to-itself",
        keeps("mapa", 1, "release_address"),
        DEADLOCK,
        ARRIVALS,
        *RACE,
    ),
    mutant(
        "gives-back-to-one",
        with_operand("mapa", 2, "0", "release_address"),
        ARRIVALS,
        DEADLOCK,
        *RACE,
    ),
    mutant("every-lane-gives-back", deletes("bra", "release_cluster"), ARRIVALS, DEADLOCK, *RACE),
    mutant(
        "gives-back-without-release",
        replaces("mbarrier.arrive", "arrive", "arrive.relaxed.cluster", "release_cluster"),
        *RACE,
        only_races=True,
    ),
    mutant(
        "waits-for-one-block",
        with_operand("mbarrier.init", 1, "8", "filters_arrivals+empty_arrivals"),
        DEADLOCK,
        ARRIVALS,
        *RACE,
    ),
    mutant("refills-too-early", does_not_wait("filters_empty"), ARRIVALS, *RACE),
    mutant(
        "expects-its-own-half",
        with_operand(EXPECT, 2, "8192", "filters_expect"),
        "more than expected",
        UNWRITTEN,
        *RACE,
    ),
    mutant("expects-twice-as-much", with_operand(EXPECT, 2, "32768", "filters_expect"), DEADLOCK),
    # Copies.
    mutant("copies-to-one-block", copies_to("1"), DEADLOCK),
    mutant("copies-to-the-other-only", copies_to("2"), DEADLOCK),
    mutant("both-copy-one-half", keeps("or.b32", 1, "filters_share"), WRONG),
    mutant(
        "halves-in-one-place", each("cp.async.bulk", "multicast", by=in_place_of_block_0), *RACE
    ),
    mutant("the-same-pixels-twice", same_tile, "already written", "wrote too"),
    mutant("the-same-pixels-of-one-tile", same_tile, "already written", "wrote too", case=HALF),
    mutant("leaves-units-out", strides_by_blocks, "bytes of out were never written", case=UNITS),
    # Splits.
    mutant(
        "split-begins-at-the-first-channel", is_zero("mul.lo.s32", "split_begin"), WRONG, case=SPLIT
    ),
    # One split has a single chunk. Without the chunk, it writes before it has waited for a launch.
    mutant(
        "split-loses-a-chunk",
        each("min.s32", "split_end", by=loses_a_chunk),
        WRONG,
        TOO_EARLY,
        case=SPLIT,
    ),
    mutant(
        "splits-in-one-place",
        with_operand("mad.lo.s32", 1, "0", "split_image"),
        *SUMS,
        case=SPLIT,
    ),
    mutant(
        "sums-beyond-the-line",
        deletes("bra", "inside_image"),
        *SUMS,
        case=SPLIT,
    ),
    mutant(
        "sums-of-other-channels",
        each("st.global", "store_sums", by=moves_channels),
        *SUMS,
        case=SPLIT,
    ),
    mutant("sums-of-other-lines", swaps_lines, WRONG, case=SPLIT),
    mutant(
        "adds-to-the-unit-before",
        is_true("setp.ne.b32", "wgmma"),
        WRONG,
        case=SPLIT_UNITS,
    ),
]

HARMLESS = [
    mutant(
        "starts-with-a-release",
        replaces("barrier.cluster.arrive", "relaxed", "release", "first_sync"),
    ),
    mutant(
        "gives-back-with-a-wide-scope",
        replaces("mbarrier.arrive", "arrive", "arrive.release.cluster", "release_cluster"),
    ),
    # Beyond the last channel pixels are zeros.
    mutant("split-walks-too-far", keeps("min.s32", 1, "split_end"), case=SPLIT),
]
