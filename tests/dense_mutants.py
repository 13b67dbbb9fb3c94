"""Faults planted in the dense layers of sm_90a: in their barriers, fences, waits and addresses."""

from __future__ import annotations

import re

from halo_mutants import TOO_EARLY, does_not_wait, twice, with_operand, without_xor
from mutants import NO_BARRIER, NO_SYNCWARP, WRONG, Case, Edit, Mutant, Text, deletes

# Fourteen steps of two tiles, the second cut off, in a ring of six stages.
RING = Case("linear", (7, 840, 138), arch="sm_90a", sm_count=1)
# Four splits, a cluster of blocks for each of two tiles.
SPLIT = Case("linear", (7, 256, 136), arch="sm_90a")

CUH = "kernels/sm90/dense.cuh"
BARRIERS_ARE_MADE = (CUH, "ptx::fence_mbarrier_init();")
STAGE_IS_FREE = (CUH, "ptx::mbarrier_wait(smem + Tile::EMPTY_AT")
STAGE_IS_THERE = (CUH, "ptx::mbarrier_wait(smem + Tile::FULL_AT")
MORE_BYTES = (CUH, "ptx::mbarrier_arrive_expect_tx(full(stage), Tile::STAGE_BYTES);")
LOAD_WEIGHTS = (CUH, "ptx::tma_load_2d(smem + stage * Tile::STAGE_BYTES, &p.w")
LOAD_IMAGES = (CUH, "ptx::tma_load_2d(smem + at.stage * Tile::STAGE_BYTES + Tile::WEIGHT_BYTES")
LAUNCHES = (CUH, "ptx::griddepcontrol_wait();")
FENCE = (CUH, "ptx::wgmma_fence();")
PRODUCTS = (CUH, "ptx::wgmma<T>(acc,")
STEP_BEFORE = (CUH, "ptx::wgmma_wait<1>();  // all but this step's")
ALL_STEPS = (CUH, "ptx::wgmma_wait<0>();")
PRODUCTS_ARE_DONE = (CUH, "ptx::named_barrier(1, 32 * Tile::WARPS);")
WRITE_SUMS = (CUH, "write_sums<Tile>(acc, reinterpret_cast")
WRITE_RESULTS = (CUH, "write_results<T, Tile>(p, work, smem);")
LOAD_SUMS = (CUH, "ptx::cluster_load(ptx::cluster_address(at, split));")


def moves_boxes(file: str, marker: str, coordinate: int) -> Edit:
    """One element further."""

    def edit(text: Text) -> None:
        for copy in text.find("cp.async.bulk.tensor", file, marker):
            [coordinates] = re.findall(r"\{(.*?)\}", copy.text)
            x = coordinates.split(",")[coordinate].strip()
            text.replace(copy, f"add.s32 {x}, {x}, 1; {copy.text} add.s32 {x}, {x}, -1;")

    return edit


def splits_have_the_same_columns(text: Text) -> None:
    for product in text.find("mul.lo.s32", CUH, "const int first_step = blockIdx.y * p.steps;"):
        text.replace(product, f"mov.u32 {product.operands[0]}, 0;")


def one_split_twice(text: Text) -> None:
    """And another one never."""
    second = text.find("mapa", *LOAD_SUMS)[1]
    to, at, _ = second.operands
    text.replace(second, f"{second.opcode} {to}, {at}, 2;")


def two_warps_write_the_same_features(text: Text) -> None:
    """Warps 2 and 3 of a warpgroup those of warps 0 and 1."""
    rows = text.find("and.b32", CUH, "sums_smem += lane % 4 * 2 * Tile::SUMS_ROW")
    [first_row] = [row for row in rows if row.operands[2] == "48"]
    to, warp, _ = first_row.operands
    text.replace(first_row, f"{first_row.opcode} {to}, {warp}, 16;")


def wrong_bias(text: Text) -> None:
    """That of the features four further."""
    for load in text.find("ld.global", CUH, "smxx::load<WIDTH>(p.bias + feature)"):
        address = load.operands[1]
        text.replace(load, load.text.replace(address, address.replace("]", "+16]")))


def without_relu(text: Text) -> None:
    for most in text.find("max.NaN.f32", CUH, "smxx::max_nan(v[e] + bias.e[e], least)"):
        text.replace(most, f"mov.f32 {most.operands[0]}, {most.operands[1]};")


def stores_beyond_the_last_feature(text: Text) -> None:
    for compare in text.find("setp.", CUH, "if (feature + e < p.K) to[e] = out.e[e];"):
        to = compare.operands[0]
        value = 0 if compare.opcode.startswith(("setp.lt", "setp.gt")) else 1
        text.replace(compare, f"setp.eq.u32 {to}, {value}, 0;")


def mutant(
    name: str, edit: Edit, *found: str, case: Case = RING, only_races: bool = False
) -> Mutant:
    return Mutant(f"dense-{name}", "sm90/dense", case, edit, found, only_races=only_races)


FLIGHT = "asynchronously, and which has not been waited for"
UNWRITTEN = "which was never written"
DEADLOCK = ": deadlock: "
PAST = " past its "
ARRIVALS = "arrivals more in this phase"
RACE = (FLIGHT, NO_BARRIER, NO_SYNCWARP)

MUTANTS = [
    # The ring. What is refilled too early may also end a phase that nobody has seen.
    mutant("does-not-wait-for-stages", does_not_wait(*STAGE_IS_THERE), FLIGHT, UNWRITTEN),
    mutant("refills-too-early", does_not_wait(*STAGE_IS_FREE), ARRIVALS, *RACE),
    mutant(
        "expects-few-bytes",
        with_operand("mbarrier.arrive.expect_tx", *MORE_BYTES, 2, "128"),
        "more than expected",
    ),
    mutant(
        "waits-for-one-warpgroup",
        with_operand("mbarrier.init", CUH, "Tile::EMPTY_AT + 8 * i, Tile::WARPS);", 1, "4"),
        DEADLOCK,
        ARRIVALS,
        *RACE,
    ),
    mutant("gives-back-too-early", deletes("wgmma.wait_group", *STEP_BEFORE), *RACE),
    mutant("keeps-stages", deletes("mbarrier.arrive", *STEP_BEFORE, lines=2), DEADLOCK),
    mutant("waits-for-the-phase-before", without_xor(*STAGE_IS_FREE), ARRIVALS, DEADLOCK, *RACE),
    mutant(
        "without-mbarrier-fence",
        deletes("fence.mbarrier_init", *BARRIERS_ARE_MADE),
        "without a fence.mbarrier_init or fence.proxy.async in between",
        only_races=True,
    ),
    mutant(
        "without-syncthreads",
        deletes("bar.sync", CUH, "__syncthreads();"),
        NO_BARRIER,
        "that is not initialised",
    ),
    mutant("does-not-wait-for-launches", deletes("griddepcontrol.wait", *LAUNCHES), TOO_EARLY),
    # Products.
    mutant("without-wgmma-fence", deletes("wgmma.fence", *FENCE), "without a wgmma.fence"),
    mutant("without-commit", deletes("wgmma.commit_group", CUH, "ptx::wgmma_commit();"), *RACE),
    mutant(
        "does-not-wait-for-the-last-step",
        deletes("wgmma.wait_group", *ALL_STEPS),
        "that a wgmma.mma_async in flight uses",
    ),
    mutant("starts-over-in-each-step", with_operand("setp.ne.b32", *PRODUCTS, 1, "0"), WRONG),
    mutant("loads-weights-one-feature-off", moves_boxes(*LOAD_WEIGHTS, 1), WRONG),
    mutant("loads-images-one-column-off", moves_boxes(*LOAD_IMAGES, 0), WRONG),
    mutant("splits-have-the-same-columns", splits_have_the_same_columns, WRONG, case=SPLIT),
    # Sums of splits.
    mutant("sums-over-stages", deletes("barrier.sync", *PRODUCTS_ARE_DONE), *RACE),
    mutant(
        "adds-too-early",
        deletes("barrier.cluster", *WRITE_SUMS, lines=3),
        *RACE,
        UNWRITTEN,
        "which has ended",
        case=SPLIT,
    ),
    mutant(
        "ends-too-early",
        deletes("barrier.cluster", *WRITE_RESULTS, lines=3),
        "may still access its shared memory",
        "which has ended",
        case=SPLIT,
    ),
    mutant("one-split-twice", one_split_twice, WRONG, case=SPLIT),
    mutant(
        "two-warps-write-the-same-features",
        two_warps_write_the_same_features,
        NO_BARRIER,
        UNWRITTEN,
    ),
    # Results.
    mutant("bias-of-other-features", wrong_bias, WRONG, PAST),
    mutant("without-relu", without_relu, WRONG),
    mutant(
        "stores-beyond-the-last-feature",
        stores_beyond_the_last_feature,
        "was already written",
        "wrote too",
        PAST,
    ),
]

HARMLESS = [
    mutant("waits-for-every-step", with_operand("wgmma.wait_group", *STEP_BEFORE, 0, "0")),
    mutant("two-wgmma-fences", twice("wgmma.fence", *FENCE)),
    mutant("two-named-barriers", twice("barrier.sync", *PRODUCTS_ARE_DONE)),
    # A block of its own cluster: the barrier is one of its own threads.
    mutant("ends-without-a-barrier", deletes("barrier.cluster", *WRITE_RESULTS, lines=3)),
]
