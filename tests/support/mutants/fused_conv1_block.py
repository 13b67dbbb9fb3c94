"""Faults planted in the kernel of the first two convolutions, whose results are exact."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from support.kernel_cases import BlockCase
from support.mutants.cases import Case
from support.mutants.edits import (
    ANY_RACE,
    ARRIVALS,
    DEADLOCK,
    FLIGHT,
    NO_BARRIER,
    NO_SYNCWARP,
    RACE,
    UNWRITTEN,
    USED,
    WRONG,
    Edit,
    Mutant,
    deletes,
    does_not_wait,
    each,
    is_true,
    keeps,
    moves_boxes,
    replaces,
    twice,
    with_operand,
    without_xor,
)
from support.mutants.ptx_text import Statement

from vgg_cuda import _C, PRESETS
from vgg_cuda.backends.operations import normalization


@dataclass(frozen=True)
class Block(Case):
    """uint8 pixels with a preset that shifts them: black differs from the zeros of the padding."""

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


# Two tiles in a line, cut off below and at the right, in a block each; and five tiles in one block.
BLOCK = Block("fused_conv1_block", (1, 7, 20), arch="sm_90a")
TILES = Block("fused_conv1_block", (1, 4, 70), arch="sm_90a", sm_count=1)


def never_zero(opcode: str, tag: str) -> Edit:
    """Replace every ``selp`` of a value or 0 by the value."""

    def edited(s: Statement) -> str:
        to, *values, _ = s.operands
        [value] = [value for value in values if value not in ("0", "0f00000000")]
        return f"mov{opcode.removeprefix('selp')} {to}, {value};"

    return each(opcode, tag, by=edited)


def mutant(
    name: str, edit: Edit, *found: str, case: Case = BLOCK, only_races: bool = False
) -> Mutant:
    return Mutant(
        f"block-{name}", "sm90/fused_conv1_block", case, edit, found, only_races=only_races
    )


MUTANTS = [
    # Waits.
    mutant("does-not-wait-for-filters", does_not_wait("filters_full"), FLIGHT, UNWRITTEN),
    mutant("does-not-wait-for-pixels", does_not_wait("pixels_full"), UNWRITTEN, *RACE),
    mutant(
        "writes-pixels-too-early",
        does_not_wait("pixels_empty"),
        ARRIVALS,
        DEADLOCK,
        USED,
        *RACE,
        case=TILES,
    ),
    mutant("hands-over-too-early", deletes("wgmma.wait_group", "last_tap"), USED, case=TILES),
    mutant("keeps-pixels", deletes("mbarrier.arrive", "release_pixels"), DEADLOCK, case=TILES),
    mutant(
        "waits-for-one-warp-of-four",
        with_operand("mbarrier.init", 1, "1", "pixels_arrivals+full_arrivals"),
        ARRIVALS,
        DEADLOCK,
        UNWRITTEN,
        *RACE,
    ),
    mutant("phase-stays", without_xor("next_pixels"), DEADLOCK, UNWRITTEN, *RACE, case=TILES),
    mutant(
        "without-mbarrier-fence",
        deletes("fence.mbarrier_init", "barriers_made"),
        "without a fence.mbarrier_init or fence.proxy.async in between",
        only_races=True,
    ),
    mutant(
        "without-proxy-fence",
        deletes("fence.proxy.async", "pixels_fence"),
        "through the async proxy",
        only_races=True,
    ),
    # The first convolution.
    mutant(
        "taps-without-syncwarp",
        deletes("bar.warp", "taps_written"),
        NO_SYNCWARP,
        only_races=True,
    ),
    mutant(
        "edges-without-syncwarp",
        deletes("bar.warp", "edges_written"),
        NO_SYNCWARP,
        only_races=True,
    ),
    mutant(
        "without-zeros-behind-taps",
        deletes("st.shared", "taps_zeros"),
        UNWRITTEN,
    ),
    mutant(
        "padding-before-normalisation",
        never_zero("selp.f32", "image_padding"),
        WRONG,
    ),
    mutant(
        "columns-outside-are-not-zero",
        never_zero("selp.b32", "inside_columns"),
        WRONG,
    ),
    mutant(
        "lines-outside-are-not-zero",
        never_zero("selp.b32", "inside_lines"),
        WRONG,
    ),
    mutant("edges-outside-are-not-zero", never_zero("selp.b32", "inside_edges"), WRONG),
    mutant(
        "wrong-member",
        replaces("add.s32", r", 7;", ", 6;", "neighbour_rows"),
        WRONG,
    ),
    mutant(
        "edges-of-one-chunk",
        keeps("selp.b32", 1, "rotate_chunks"),
        WRONG,
    ),
    mutant("pixels-without-swizzle", without_xor("pixel_row"), WRONG),
    mutant(
        "reads-one-column-off",
        replaces("add.s32", "-2;", "-1;", "patch_corner"),
        WRONG,
        "x[",
    ),
    # The second.
    mutant(
        "without-wgmma-fence",
        deletes("wgmma.fence", "wgmma_fence"),
        "without a wgmma.fence",
    ),
    mutant(
        "adds-to-the-tile-before",
        is_true("setp.ne.b32", "wgmma"),
        WRONG,
        case=TILES,
    ),
    mutant(
        "pixels-of-the-line-before",
        replaces("or.b32", "128;", "64;", "tap_start"),
        WRONG,
    ),
    mutant(
        "pools-one-column",
        keeps("max.NaN.f32", 1, "pool_window"),
        WRONG,
    ),
    # Results.
    mutant(
        "writes-what-a-copy-reads",
        deletes("cp.async.bulk.wait_group", "buffer_free"),
        *RACE,
        case=TILES,
    ),
    mutant(
        "results-without-first-barrier",
        deletes("barrier.sync", "before_results"),
        FLIGHT,
        *ANY_RACE,
        case=TILES,
    ),
    mutant(
        "results-without-second-barrier",
        deletes("barrier.sync", "results_written"),
        NO_BARRIER,
        NO_SYNCWARP,
        UNWRITTEN,
    ),
    mutant(
        "results-without-proxy-fence",
        deletes("fence.proxy.async", "results_fence"),
        "through the async proxy",
        only_races=True,
    ),
    mutant(
        "exits-before-its-copy",
        deletes("cp.async.bulk.wait_group", "stores_read"),
        "exits with a bulk store that it has not waited for",
    ),
    mutant(
        "stores-one-pixel-off",
        moves_boxes(1, "store_results"),
        "bytes of out were never written",
    ),
]

HARMLESS = [
    mutant("two-syncwarps", twice("bar.warp", "taps_written")),
    # No producer waits for these pixels.
    mutant("keeps-the-only-pixels", deletes("mbarrier.arrive", "release_pixels")),
]
