"""Faults planted in the halo convolution of sm_90a: in its barriers, fences, waits and addresses.

The cases have 64 channels: three steps of a tile, in two stages of pixels; nine taps of it, in five
stages of filters. Every stage is filled again.
"""

from __future__ import annotations

import re

from mutants import ANY_RACE, NO_BARRIER, NO_SYNCWARP, WRONG, Case, Edit, Mutant, Text, deletes

# Two slabs, cut off below and at the right: one for each warpgroup. Two tiles of them in one block.
HALO = Case("conv3x3", (1, 10, 12, 64, 64), arch="sm_90a")
TILES = Case("conv3x3", (2, 10, 12, 64, 64), arch="sm_90a", sm_count=1)
POOL = Case("conv3x3", (1, 10, 12, 64, 64), pool=True, arch="sm_90a")

CUH, PIPELINE = "kernels/sm90/halo.cuh", "kernels/sm90/pipeline.cuh"
BARRIERS_ARE_MADE = (PIPELINE, "ptx::fence_mbarrier_init();")
PIXELS_ARE_FREE = (CUH, "ptx::mbarrier_wait(smem + Tile::PIXELS_EMPTY_AT")
FILTERS_ARE_FREE = (PIPELINE, "ptx::mbarrier_wait(smem + Tile::FILTERS_EMPTY_AT")
MORE_PIXELS = (CUH, "ptx::mbarrier_arrive_expect_tx(full, Tile::PIXEL_BYTES);")
MORE_FILTERS = (PIPELINE, "ptx::mbarrier_arrive_expect_tx(full, Tile::FILTER_BYTES);")
LOAD_PIXELS = (CUH, "ptx::tma_load_4d(to + i * Tile::BOX_BYTES")
PIXELS_ARE_THERE = (CUH, "ptx::mbarrier_wait(smem + Tile::PIXELS_FULL_AT")
FILTERS_ARE_THERE = (CUH, "ptx::mbarrier_wait(smem + Tile::FILTERS_FULL_AT")
FENCE = (CUH, "ptx::wgmma_fence();")
TAP_BEFORE = (CUH, "ptx::wgmma_wait<1>();  // all but this tap's")
ALL_TAPS = (CUH, "ptx::wgmma_wait<0>();")
BUFFER_IS_FREE = (CUH, "if (leads) ptx::bulk_wait_read<Tile::PIECES - 1>();")
WRITE_PIECE = (CUH, "write_piece<T, Tile::POOL>(acc[m] + c / 2")
PIECE_IS_WRITTEN = (CUH, "ptx::fence_proxy_async();")
STORE = (CUH, "ptx::tma_store_4d(&p.y, buffer")
ALL_IS_READ = (CUH, "if (leads) ptx::bulk_wait_read<0>();")
WAIT, EXPECT = "mbarrier.try_wait", "mbarrier.arrive.expect_tx"


def does_not_wait(file: str, marker: str) -> Edit:
    """Every wait for the mbarrier succeeds at once."""
    return is_true(WAIT, file, marker)


def is_true(opcode: str, file: str, marker: str) -> Edit:
    """The first operand, a predicate."""

    def edit(text: Text) -> None:
        for statement in text.find(opcode, file, marker):
            text.replace(statement, f"setp.eq.u32 {statement.operands[0]}, 0, 0;")

    return edit


def with_operand(opcode: str, file: str, marker: str, which: int, operand: str) -> Edit:
    def edit(text: Text) -> None:
        for statement in text.find(opcode, file, marker):
            operands = statement.operands
            operands[which] = operand
            text.replace(statement, f"{statement.opcode} {', '.join(operands)};")

    return edit


def twice(opcode: str, file: str, marker: str, lines: int = 1) -> Edit:
    def edit(text: Text) -> None:
        for statement in text.find(opcode, file, marker, lines):
            text.append(statement, statement.text)

    return edit


def without_xor(file: str, marker: str) -> Edit:
    def edit(text: Text) -> None:
        for xor in text.find("xor.b32", file, marker):
            text.replace(xor, f"mov.b32 {xor.operands[0]}, {xor.operands[1]};")

    return edit


def moves_boxes(file: str, marker: str) -> Edit:
    """One pixel to the right: x is the second coordinate."""

    def edit(text: Text) -> None:
        for copy in text.find("cp.async.bulk.tensor", file, marker):
            [coordinates] = re.findall(r"\{(.*?)\}", copy.text)
            x = coordinates.split(",")[1].strip()
            text.replace(copy, f"add.s32 {x}, {x}, 1; {copy.text}")

    return edit


def last_row_of_the_filter_sees_the_line_before(text: Text) -> None:
    offsets = text.find("or.b32", CUH, "const uint32_t a = a_low + (pixels.stage")
    [offset] = [offset for offset in offsets if offset.operands[2] == "2048"]
    text.replace(offset, offset.text.replace("2048", "1024"))


def transposes_the_filter(text: Text) -> None:
    taps = text.find("mad.lo.s32", PIPELINE, "const int column = (3 * r + s) * p.C + c;")
    [tap] = [tap for tap in taps if tap.operands[2] == "3"]
    to, r, _, s = tap.operands
    text.replace(tap, f"{tap.opcode} {to}, {s}, 3, {r};")


def wrong_bias(text: Text) -> None:
    """Some channels have that of the channels two further."""
    for load in text.find("ld.global.v2.f32", CUH, "const float2 b0 = biases[4 * j]"):
        address = load.operands[1]
        if "+" not in address:
            text.replace(load, load.text.replace(address, address.replace("]", "+8]")))


def without_relu(text: Text) -> None:
    for most in text.find("max.NaN.f32", PIPELINE, "smxx::max_nan(first + bias.x, least)"):
        text.replace(most, f"mov.f32 {most.operands[0]}, {most.operands[1]};")


def pools_the_wrong_lane(text: Text) -> None:
    for shuffle in text.find("shfl.sync.bfly", CUH, "greater<T>(odd ? h : l, __shfl_xor_sync"):
        to, value, _, *rest = shuffle.operands
        text.replace(shuffle, f"{shuffle.opcode} {', '.join([to, value, '8', *rest])};")


def mutant(
    name: str, edit: Edit, *found: str, case: Case = HALO, only_races: bool = False
) -> Mutant:
    return Mutant(f"halo-{name}", "sm90/halo", case, edit, found, only_races=only_races)


FLIGHT = "asynchronously, and which has not been waited for"
UNWRITTEN = "which was never written"
DEADLOCK = ": deadlock: "
ARRIVALS = "arrivals more in this phase"
USED = "that a wgmma.mma_async in flight uses"
TOO_EARLY = "before griddepcontrol.wait, while launches before this one may still run"
RACE = (FLIGHT, NO_BARRIER, NO_SYNCWARP)

MUTANTS = [
    # The rings. What is refilled too early may also end a phase that nobody has seen.
    mutant("does-not-wait-for-pixels", does_not_wait(*PIXELS_ARE_THERE), FLIGHT, UNWRITTEN),
    mutant("does-not-wait-for-filters", does_not_wait(*FILTERS_ARE_THERE), FLIGHT, UNWRITTEN),
    mutant("refills-pixels-too-early", does_not_wait(*PIXELS_ARE_FREE), ARRIVALS, *RACE),
    mutant("refills-filters-too-early", does_not_wait(*FILTERS_ARE_FREE), ARRIVALS, *RACE),
    mutant(
        "expects-few-pixels", with_operand(EXPECT, *MORE_PIXELS, 2, "128"), "more than expected"
    ),
    mutant(
        "expects-few-filters", with_operand(EXPECT, *MORE_FILTERS, 2, "128"), "more than expected"
    ),
    mutant(
        "waits-for-one-warpgroup",
        with_operand("mbarrier.init", PIPELINE, "Tile::PIXELS_EMPTY_AT + 8 * i, WARPS);", 1, "4"),
        DEADLOCK,
        ARRIVALS,
        *RACE,
    ),
    mutant("gives-back-too-early", deletes("wgmma.wait_group", *TAP_BEFORE), *RACE),
    mutant("keeps-filters", deletes("mbarrier.arrive", *TAP_BEFORE, lines=2), DEADLOCK),
    mutant(
        "keeps-pixels", deletes("mbarrier.arrive", CUH, "if (r == 0) give_back.pixels("), DEADLOCK
    ),
    mutant(
        "keeps-the-last-stages",
        deletes("mbarrier.arrive", *ALL_TAPS, lines=5),
        DEADLOCK,
        case=TILES,
    ),
    mutant(
        "parity-of-pixels-stays",
        without_xor(CUH, "pixels.advance();"),
        DEADLOCK,
        UNWRITTEN,
        *RACE,
    ),
    mutant("waits-for-stages-never-filled", without_xor(*PIXELS_ARE_FREE), DEADLOCK),
    mutant(
        "without-mbarrier-fence",
        deletes("fence.mbarrier_init", *BARRIERS_ARE_MADE),
        "without a fence.mbarrier_init or fence.proxy.async in between",
        only_races=True,
    ),
    mutant(
        "without-syncthreads",
        deletes("bar.sync", PIPELINE, "__syncthreads();"),
        NO_BARRIER,
        "that is not initialised",
    ),
    mutant(
        "wants-too-many-registers",
        with_operand("setmaxnreg.dec", CUH, "ptx::decrease_registers<40>();", 0, "48"),
        "waiting for registers (32 are free",
    ),
    # Products.
    mutant("without-wgmma-fence", deletes("wgmma.fence", *FENCE), "without a wgmma.fence"),
    mutant("without-commit", deletes("wgmma.commit_group", CUH, "ptx::wgmma_commit();"), *RACE),
    mutant("does-not-wait-for-the-last-tap", deletes("wgmma.wait_group", *ALL_TAPS), USED),
    mutant(
        "adds-to-the-tile-before",
        is_true("setp.ne.b32", CUH, "ptx::wgmma<T>(acc[m],"),
        WRONG,
        case=TILES,
    ),
    mutant("reads-the-line-before", last_row_of_the_filter_sees_the_line_before, WRONG),
    mutant("transposes-the-filter", transposes_the_filter, WRONG),
    mutant("loads-one-pixel-off", moves_boxes(*LOAD_PIXELS), WRONG),
    # Results.
    mutant(
        "writes-what-a-copy-reads",
        deletes("cp.async.bulk.wait_group", *BUFFER_IS_FREE),
        *RACE,
    ),
    mutant(
        "pieces-without-first-barrier",
        deletes("barrier.sync", *BUFFER_IS_FREE, lines=2),
        FLIGHT,
        *ANY_RACE,
    ),
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
    mutant("stores-one-pixel-off", moves_boxes(*STORE), "bytes of out were never written"),
    mutant("without-swizzle", without_xor(*WRITE_PIECE), WRONG),
    mutant("pooled-without-swizzle", without_xor(*WRITE_PIECE), WRONG, *ANY_RACE, case=POOL),
    mutant("bias-of-another-channel", wrong_bias, WRONG),
    mutant("without-relu", without_relu, WRONG),
    mutant("pools-the-wrong-lane", pools_the_wrong_lane, WRONG, case=POOL),
    # Launches before this one.
    mutant(
        "does-not-wait-for-launches",
        deletes("griddepcontrol.wait", CUH, "ptx::griddepcontrol_wait();"),
        TOO_EARLY,
    ),
]

HARMLESS = [
    mutant(
        "waits-for-every-tap",
        with_operand("wgmma.wait_group", *TAP_BEFORE, 0, "0"),
        case=TILES,
    ),
    mutant("two-wgmma-fences", twice("wgmma.fence", *FENCE)),
    mutant("two-proxy-fences", twice("fence.proxy.async", *PIECE_IS_WRITTEN)),
    mutant("two-named-barriers", twice("barrier.sync", *PIECE_IS_WRITTEN, lines=2)),
    mutant(
        "waits-for-every-piece",
        with_operand("cp.async.bulk.wait_group", *BUFFER_IS_FREE, 0, "0"),
        case=POOL,
    ),
    # Nobody waits for them.
    mutant(
        "keeps-the-last-stages-of-the-only-tile", deletes("mbarrier.arrive", *ALL_TAPS, lines=5)
    ),
]
