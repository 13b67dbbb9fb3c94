"""Faults planted in the kernel of the first two convolutions; what is right is so to the bit."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from halo_mutants import (
    ARRIVALS,
    DEADLOCK,
    FLIGHT,
    RACE,
    UNWRITTEN,
    USED,
    does_not_wait,
    is_true,
    moves_boxes,
    twice,
    with_operand,
    without_xor,
)
from mutants import ANY_RACE, NO_BARRIER, NO_SYNCWARP, WRONG, Case, Edit, Mutant, Text, deletes
from support.kernel_cases import BlockCase

from vgg_cuda import _C, PRESETS
from vgg_cuda.backends.operations import normalization


@dataclass(frozen=True)
class Block(Case):
    """uint8 pixels, whose preset shifts them: black is far from the padding's zeros."""

    preset: str = "torchvision"

    @cached_property
    def _case(self) -> BlockCase:
        n, h, w = self.shape
        return BlockCase(n, h, w, self.dtype, "uint8", self.preset)

    @property
    def plan(self) -> _C.Plan:
        sms = self.sm_count or _C.arch("sm_90a").sm_count
        return self._case.plan(_C.device_arch(9, 0, sms))

    def run(self, executor: _C.Emulator) -> np.ndarray:
        w1, bias1, w2, bias2 = self._case.weights
        packed1 = np.zeros((64, 32), w1.dtype)
        packed1[:, :27] = w1.reshape(64, 27)
        packed2 = np.ascontiguousarray(w2.reshape(64, 576))
        out = np.empty(self._same.shape, w1.dtype)
        _C.fused_conv1_block(
            self.plan, self._case.x, packed1, bias1, packed2, bias2, out, executor,
            normalize=normalization(PRESETS[self.preset]),
        )  # fmt: skip
        return out

    @cached_property
    def _same(self) -> np.ndarray:
        return self._case.same(self.plan.as_dict()["tiling"])

    def is_right(self, y: np.ndarray) -> bool:
        return y.tobytes() == self._same.tobytes()


# Two tiles in a line, cut off below and at the right, each in a block of its own, and five in one.
BLOCK = Block("fused_conv1_block", (1, 7, 20), arch="sm_90a")
TILES = Block("fused_conv1_block", (1, 4, 70), arch="sm_90a", sm_count=1)

FRONT, CUH = "kernels/sm90/fused_conv1_block_front.cuh", "kernels/sm90/fused_conv1_block.cuh"
WAIT_EMPTY = (FRONT, "ptx::mbarrier_wait(address + Tile::PIXELS_EMPTY_AT")
PIXELS_ARE_THERE = (CUH, "ptx::mbarrier_wait(smem + Tile::PIXELS_FULL_AT")
FILTERS_ARE_THERE = (CUH, "ptx::mbarrier_wait(smem + Tile::FILTERS_FULL_AT, 0);")
GIVE_BACK = (CUH, "ptx::mbarrier_arrive(smem + Tile::PIXELS_EMPTY_AT")
ALL_TAPS = (CUH, "ptx::wgmma_wait<0>();")
WRITTEN = (FRONT, "ptx::fence_proxy_async();  // wgmma reads")
BUFFER_IS_FREE = (CUH, "if (leads) ptx::bulk_wait_read<0>();  // the results")
RESULTS_ARE_WRITTEN = (CUH, "ptx::named_barrier(1 + consumer, 128);  // all is written")
ROW = (FRONT, "return member * Tile::ROW_BYTES + ((chunk ^ member) << 4);")


def replaces(opcode: str, file: str, marker: str, old: str, new: str) -> Edit:
    """Text in every such instruction that has it."""

    def edit(text: Text) -> None:
        for statement in text.find(opcode, file, marker):
            if re.search(old, statement.text):
                text.replace(statement, re.sub(old, new, statement.text))

    return edit


def keeps(opcode: str, file: str, marker: str, which: int) -> Edit:
    """The result is that operand, whatever the condition or the other one is."""

    def edit(text: Text) -> None:
        for statement in text.find(opcode, file, marker):
            kind = re.search(r"\.[bf](16|32)$", statement.opcode)
            assert kind
            to, *operands = statement.operands
            text.replace(statement, f"mov{kind[0]} {to}, {operands[which - 1]};")

    return edit


def never_zero(opcode: str, file: str, marker: str) -> Edit:
    """Every choice between something and 0 is for the former."""

    def edit(text: Text) -> None:
        for statement in text.find(opcode, file, marker):
            to, *values, _ = statement.operands
            [value] = [value for value in values if value not in ("0", "0f00000000")]
            text.replace(statement, f"mov{opcode.removeprefix('selp')} {to}, {value};")

    return edit


def mutant(
    name: str, edit: Edit, *found: str, case: Case = BLOCK, only_races: bool = False
) -> Mutant:
    return Mutant(
        f"block-{name}", "sm90/fused_conv1_block", case, edit, found, only_races=only_races
    )


MUTANTS = [
    # Who waits for whom.
    mutant("does-not-wait-for-filters", does_not_wait(*FILTERS_ARE_THERE), FLIGHT, UNWRITTEN),
    mutant("does-not-wait-for-pixels", does_not_wait(*PIXELS_ARE_THERE), UNWRITTEN, *RACE),
    mutant(
        "writes-pixels-too-early",
        does_not_wait(*WAIT_EMPTY),
        ARRIVALS,
        DEADLOCK,
        USED,
        *RACE,
        case=TILES,
    ),
    mutant("hands-over-too-early", deletes("wgmma.wait_group", *ALL_TAPS), USED, case=TILES),
    mutant("keeps-pixels", deletes("mbarrier.arrive", *GIVE_BACK), DEADLOCK, case=TILES),
    mutant(
        "waits-for-one-warp-of-four",
        with_operand("mbarrier.init", CUH, "Tile::PIXELS_FULL_AT + 8 * i, Tile::WARPS", 1, "1"),
        ARRIVALS,
        DEADLOCK,
        UNWRITTEN,
        *RACE,
    ),
    mutant(
        "parity-stays", without_xor(CUH, "parity ^= 1;"), DEADLOCK, UNWRITTEN, *RACE, case=TILES
    ),
    mutant(
        "without-mbarrier-fence",
        deletes("fence.mbarrier_init", CUH, "ptx::fence_mbarrier_init();"),
        "without a fence.mbarrier_init or fence.proxy.async in between",
        only_races=True,
    ),
    mutant(
        "without-proxy-fence",
        deletes("fence.proxy.async", *WRITTEN),
        "through the async proxy",
        only_races=True,
    ),
    # The first convolution.
    mutant(
        "taps-without-syncwarp",
        deletes("bar.warp", FRONT, "__syncwarp();  // rows of B"),
        NO_SYNCWARP,
        only_races=True,
    ),
    mutant(
        "edges-without-syncwarp",
        deletes("bar.warp", FRONT, "__syncwarp();  // edges come"),
        NO_SYNCWARP,
        only_races=True,
    ),
    mutant(
        "without-zeros-behind-taps",
        deletes("st.shared", FRONT, "reinterpret_cast<uint4*>(taps)[i]"),
        UNWRITTEN,
    ),
    mutant(
        "padding-before-normalisation",
        never_zero("selp.f32", FRONT, "smxx::from_float<T>(inside ? value : 0.0f);"),
        WRONG,
    ),
    mutant(
        "columns-outside-are-not-zero",
        never_zero("selp.b32", FRONT, "const uint32_t columns[2]"),
        WRONG,
    ),
    mutant(
        "lines-outside-are-not-zero",
        never_zero("selp.b32", FRONT, "is_line(line) ? columns[odd] : 0, z);"),
        WRONG,
    ),
    mutant(
        "edges-outside-are-not-zero", never_zero("selp.b32", FRONT, "is_line(t) ? halves("), WRONG
    ),
    mutant(
        "wrong-member",
        replaces("add.s32", FRONT, "const int own = row(member), left", r", 7;", ", 6;"),
        WRONG,
    ),
    mutant(
        "edges-of-one-chunk",
        keeps("selp.b32", FRONT, "for (int j = 0; j < 8; ++j) z[j] = t & by", 1),
        WRONG,
    ),
    mutant("pixels-without-swizzle", without_xor(*ROW), WRONG),
    mutant(
        "reads-one-column-off",
        replaces("add.s32", FRONT, "const int y = work.y + line_ - 2, x = work.x", "-2;", "-1;"),
        WRONG,
        "x[",
    ),
    # The second.
    mutant(
        "without-wgmma-fence",
        deletes("wgmma.fence", CUH, "ptx::wgmma_fence();"),
        "without a wgmma.fence",
    ),
    mutant(
        "adds-to-the-tile-before",
        is_true("setp.ne.b32", CUH, "ptx::wgmma<T>("),
        WRONG,
        case=TILES,
    ),
    mutant(
        "pixels-of-the-line-before",
        replaces("or.b32", CUH, "const uint32_t b = b_low + (s * Tile::PLANE_BYTES", "128;", "64;"),
        WRONG,
    ),
    mutant(
        "pools-one-column",
        keeps("max.NaN.f32", CUH, "smxx::max_nan(acc[0][lower], acc[1][lower])", 1),
        WRONG,
    ),
    # Results.
    mutant(
        "writes-what-a-copy-reads",
        deletes("cp.async.bulk.wait_group", *BUFFER_IS_FREE),
        *RACE,
        case=TILES,
    ),
    mutant(
        "results-without-first-barrier",
        deletes("barrier.sync", *BUFFER_IS_FREE, lines=2),
        FLIGHT,
        *ANY_RACE,
        case=TILES,
    ),
    mutant(
        "results-without-second-barrier",
        deletes("barrier.sync", *RESULTS_ARE_WRITTEN),
        NO_BARRIER,
        NO_SYNCWARP,
        UNWRITTEN,
    ),
    mutant(
        "results-without-proxy-fence",
        deletes("fence.proxy.async", CUH, "ptx::fence_proxy_async();"),
        "through the async proxy",
        only_races=True,
    ),
    mutant(
        "exits-before-its-copy",
        deletes("cp.async.bulk.wait_group", CUH, "// shared memory outlives the last copy"),
        "exits with a bulk store that it has not waited for",
    ),
    mutant(
        "stores-one-pixel-off",
        moves_boxes(CUH, "ptx::tma_store_4d(&p.y, out"),
        "bytes of out were never written",
    ),
]

HARMLESS = [
    mutant("two-syncwarps", twice("bar.warp", FRONT, "__syncwarp();  // rows of B")),
    # Nobody waits for them.
    mutant("keeps-the-only-pixels", deletes("mbarrier.arrive", *GIVE_BACK)),
]
