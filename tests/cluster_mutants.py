"""Faults planted in what the two blocks of a cluster of Hopper's convolutions do together, and in
the halo convolution's split sums.
"""

from __future__ import annotations

import re

from halo_mutants import (
    ARRIVALS,
    BARRIERS_ARE_MADE,
    CUH,
    DEADLOCK,
    EXPECT,
    FILTERS_ARE_FREE,
    MORE_FILTERS,
    PIPELINE,
    RACE,
    TOO_EARLY,
    UNWRITTEN,
    does_not_wait,
    is_true,
    with_operand,
)
from mutants import WRONG, Case, Edit, Mutant, Text, deletes

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

FIRST, LAST = (CUH, "make_barriers<Tile>(smem);"), (CUH, "leave<Tile>();")
MADE = (PIPELINE, "mbarrier_init(smem + Tile::FILTERS_EMPTY_AT + 8 * i, WARPS * Tile::CLUSTER);")
MULTICAST = (PIPELINE, "ptx::tma_load_2d_multicast(to, &p.w")
WHOSE = (PIPELINE, "cluster_smem_ = ptx::cluster_address(smem, lane_ % Tile::CLUSTER);")
GIVE_BACK = (PIPELINE, "if (lane_ < Tile::CLUSTER) ptx::mbarrier_arrive_cluster(barrier);")
UNIT_OF_FILTERS = (PIPELINE, "const int first = Work::of<Tile>(p, unit).k0")
TILE = (PIPELINE, "group * Tile::CLUSTER + static_cast<int>(rank<Tile>())};")
SPLIT_BEGIN = (PIPELINE, "const int begin = static_cast<int>(blockIdx.y) * p.split_channels;")
SPLIT_END = (PIPELINE, "return {begin, min(begin + p.split_channels, p.C)};")
INSIDE = (CUH, "if (slab.n >= p.N || y >= p.H || x >= p.W) continue;")
SUMS_OF = (CUH, "const int image = static_cast<int>(blockIdx.y) * p.N + slab.n;")
WRITE = (CUH, "*reinterpret_cast<float2*>(to + 8 * j) = make_float2(v[0], v[1]);")


def replaces(opcode: str, pattern: str, by: str, file: str, marker: str) -> Edit:
    """In instructions of that line."""

    def edit(text: Text) -> None:
        for statement in text.find(opcode, file, marker):
            text.replace(statement, re.sub(pattern, by, statement.text))

    return edit


def all_of(*edits: Edit) -> Edit:
    def edit(text: Text) -> None:
        for one in edits:
            one(text)

    return edit


def meets_its_own_block(file: str, marker: str) -> Edit:
    """The barrier is the block's, and not the cluster's."""
    return all_of(
        replaces("barrier.cluster.arrive", ".*", "bar.sync 0;", file, marker),
        deletes("barrier.cluster.wait", file, marker),
    )


def copies_to(blocks: str) -> Edit:
    return replaces("mov.u16", r"\d+;", f"{blocks};", *MULTICAST)


def of_block_0(file: str, marker: str) -> Edit:
    """The block's number, which goes into a sum's last bits, is taken for zero."""

    def edit(text: Text) -> None:
        for statement in text.find("or.b32", file, marker):
            to, of, _ = statement.operands
            text.replace(statement, f"mov.b32 {to}, {of};")

    return edit


def same_tile(text: Text) -> None:
    """Of both blocks, for pixels and results."""
    of_block_0(*TILE)(text)
    for insert in text.find("bfi.b32", *TILE):
        to, group, _, at, _ = insert.operands
        text.replace(insert, f"shl.b32 {to}, {group}, {at};")


def in_place_of_block_0(text: Text) -> None:
    """Both halves of a stage of filters, 8 KB each."""
    for copy in text.find("cp.async.bulk", *MULTICAST):
        to = copy.operands[0].strip("[]")
        text.replace(
            copy,
            "{ .reg .b32 place; mov.u32 place, %ctaid.x; and.b32 place, place, 1; "
            f"shl.b32 place, place, 13; sub.s32 place, {to}, place; "
            f"{copy.text.replace(f'[{to}]', '[place]')} }}",
        )


def strides_by_blocks(text: Text) -> None:
    """By as many units as there are blocks, and not clusters."""
    for read in text.find("mov.u32"):
        if read.operands[1] == "%nctaid.x":
            text.append(read, f"shl.b32 {read.operands[0]}, {read.operands[0]}, 1;")


def begins_at_zero(text: Text) -> None:
    for product in text.find("mul.lo.s32", *SPLIT_BEGIN):
        text.replace(product, f"mov.u32 {product.operands[0]}, 0;")


def loses_a_chunk(text: Text) -> None:
    """The last one of every split."""
    for end in text.find("min.s32", *SPLIT_END):
        text.append(end, f"sub.s32 {end.operands[0]}, {end.operands[0]}, 64;")


def walks_too_far(text: Text) -> None:
    for end in text.find("min.s32", *SPLIT_END):
        text.replace(end, f"mov.u32 {end.operands[0]}, {end.operands[1]};")


def moves_channels(text: Text) -> None:
    """Every second store writes what the one before it has."""
    for store in text.find("st.global", *WRITE):
        if (found := re.search(r"\+(\d+)\]", store.text)) and int(found[1]) % 64 == 32:
            text.replace(store, store.text.replace(f"+{found[1]}]", f"+{int(found[1]) - 32}]"))


def swaps_lines(text: Text) -> None:
    stores = text.find("st.global", *WRITE)
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
    # What the blocks wait for.
    mutant("starts-without-the-other", meets_its_own_block(*FIRST), *UNMADE),
    mutant(
        "starts-with-a-relaxed-barrier",
        replaces("barrier.cluster.arrive", "release", "relaxed", *FIRST),
        *UNMADE,
        only_races=True,
    ),
    mutant("ends-without-the-other", meets_its_own_block(*LAST), *ENDS),
    mutant(
        "barriers-without-a-fence",
        deletes("fence.mbarrier_init", *BARRIERS_ARE_MADE),
        "without a fence.mbarrier_init or fence.proxy.async in between",
        only_races=True,
    ),
    mutant("keeps-filters", deletes("mbarrier.arrive", *GIVE_BACK), DEADLOCK),
    mutant(
        "gives-back-to-itself",
        replaces("mapa", r"mapa\S+ (\S+), (\S+), \S+;", r"mov.u32 \1, \2;", *WHOSE),
        DEADLOCK,
        ARRIVALS,
        *RACE,
    ),
    mutant("gives-back-to-one", with_operand("mapa", *WHOSE, 2, "0"), ARRIVALS, DEADLOCK, *RACE),
    mutant("every-lane-gives-back", deletes("bra", *GIVE_BACK), ARRIVALS, DEADLOCK, *RACE),
    mutant(
        "gives-back-without-release",
        replaces("mbarrier.arrive", "arrive", "arrive.relaxed.cluster", *GIVE_BACK),
        *RACE,
        only_races=True,
    ),
    mutant(
        "waits-for-one-block",
        with_operand("mbarrier.init", *MADE, 1, "8"),
        DEADLOCK,
        ARRIVALS,
        *RACE,
    ),
    mutant("refills-too-early", does_not_wait(*FILTERS_ARE_FREE), ARRIVALS, *RACE),
    mutant(
        "expects-its-own-half",
        with_operand(EXPECT, *MORE_FILTERS, 2, "8192"),
        "more than expected",
        UNWRITTEN,
        *RACE,
    ),
    mutant("expects-twice-as-much", with_operand(EXPECT, *MORE_FILTERS, 2, "32768"), DEADLOCK),
    # What they copy.
    mutant("copies-to-one-block", copies_to("1"), DEADLOCK),
    mutant("copies-to-the-other-only", copies_to("2"), DEADLOCK),
    mutant("both-copy-one-half", of_block_0(*UNIT_OF_FILTERS), WRONG),
    mutant("halves-in-one-place", in_place_of_block_0, *RACE),
    mutant("the-same-pixels-twice", same_tile, "already written", "wrote too"),
    mutant("the-same-pixels-of-one-tile", same_tile, "already written", "wrote too", case=HALF),
    mutant("leaves-units-out", strides_by_blocks, "bytes of out were never written", case=UNITS),
    # Splits.
    mutant("split-begins-at-the-first-channel", begins_at_zero, WRONG, case=SPLIT),
    # One split has a single chunk: without it, it writes before it has waited for anything.
    mutant("split-loses-a-chunk", loses_a_chunk, WRONG, TOO_EARLY, case=SPLIT),
    mutant(
        "splits-in-one-place",
        with_operand("mad.lo.s32", *SUMS_OF, 1, "0"),
        *SUMS,
        case=SPLIT,
    ),
    mutant(
        "sums-beyond-the-line",
        deletes("bra", *INSIDE),
        *SUMS,
        case=SPLIT,
    ),
    mutant("sums-of-other-channels", moves_channels, *SUMS, case=SPLIT),
    mutant("sums-of-other-lines", swaps_lines, WRONG, case=SPLIT),
    mutant(
        "adds-to-the-unit-before",
        is_true("setp.ne.b32", CUH, "ptx::wgmma<T>(acc[m],"),
        WRONG,
        case=SPLIT_UNITS,
    ),
]

HARMLESS = [
    mutant(
        "gives-back-with-a-wide-scope",
        replaces("mbarrier.arrive", "arrive", "arrive.release.cluster", *GIVE_BACK),
    ),
    # Beyond the last channel pixels are zeros.
    mutant("split-walks-too-far", walks_too_far, case=SPLIT),
]
