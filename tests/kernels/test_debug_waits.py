"""Kernels that were compiled with VGG_CUDA_DEBUG_WAITS, with and without planted deadlocks."""

from __future__ import annotations

import re
from dataclasses import dataclass

import pytest
from support.mutants.cases import Case
from support.mutants.cluster import PAIR
from support.mutants.dense import SPLIT
from support.mutants.edits import EXPECT, Edit, deletes, each, with_operand
from support.mutants.fused_conv1_block import BLOCK
from support.mutants.halo import HALO, TILES
from support.mutants.ptx_text import Text
from support.ptx_programs import FAST_ORDERS, ORDERS

from vgg_cuda import _C

pytestmark = pytest.mark.emulator

WAITED = "has waited 2 s for the end of phase "
LAUNCHES = "; griddepcontrol.wait has not returned: an earlier launch has not ended"


@dataclass(frozen=True)
class Hang:
    """A fault that makes a kernel wait forever.

    ``warps``: numbers of the warps that report. ``lines``: patterns of what some of them report.
    """

    module: str
    case: Case
    edit: Edit
    warps: frozenset[int]
    lines: tuple[str, ...]

    @property
    def kernel(self) -> str:
        name: str = self.case.plan.as_dict()["launches"][0]["kernel"]
        return name


CONSUMERS = frozenset(range(8))
HANGS = {
    "consumers keep the pixels": Hang(
        "sm90/halo", TILES,
        deletes("mbarrier.arrive.shared", "release_pixels", "release_last_pixels"),
        CONSUMERS | {8, 9},
        (r"warp [0-7]: .*phase 1 of mbarrier pixels\.full\[0\], byte 212992 of",
         r"warp 8: .*phase 0 of mbarrier pixels\.empty\[0\], byte 213008 of",
         r"warp 9: .*phase 1 of mbarrier filters\.empty\[0\], byte \d+ of"),
    ),
    "pixels lack 16 bytes": Hang(
        "sm90/halo", HALO, with_operand(EXPECT, 2, "69648", "pixels_expect"), CONSUMERS | {8, 9},
        (r"warp [0-7]: .*phase 0 of mbarrier pixels\.full\[0\]",),
    ),
    "the second block gets no filters": Hang(
        "sm90/halo", PAIR, deletes("mbarrier.arrive.shared::cluster", "release_filters"),
        CONSUMERS | {9},
        (r"block \(0,0,0\), warp [0-7]: .*phase 1 of mbarrier filters\.full\[0\]",
         r"block \(1,0,0\), warp 9: .*phase 0 of mbarrier filters\.empty\[0\]"),
    ),
    "earlier launches do not end": Hang(
        "sm90/halo", HALO, each("griddepcontrol.wait", by=lambda s: "exit;"), CONSUMERS | {9},
        (rf"warp [0-7]: .*phase 0 of mbarrier pixels\.full\[0\], .*{LAUNCHES}",),
    ),
    "earlier launches do not end (dense)": Hang(
        "sm90/dense", SPLIT, each("griddepcontrol.wait", by=lambda s: "exit;"), CONSUMERS,
        (rf"warp [0-7]: .*phase 0 of mbarrier stages\.full\[0\], .*{LAUNCHES}",),
    ),
    "filters never arrive": Hang(
        "sm90/fused_conv1_block", BLOCK, deletes(EXPECT), CONSUMERS,
        (r"warp [0-7]: .*phase 0 of mbarrier filters\.full\[0\], byte 229376 of shared memory$",),
    ),
}  # fmt: skip


def debug_waits(module: str) -> str:
    return _C.emulator_modules(debug_waits=True)[module]


def emulator(order: str, module: str, text: str) -> _C.Emulator:
    schedule, lazy = ORDERS[order]
    return _C.Emulator(schedule=schedule, lazy=lazy, workers=1, modules={module: text})


@pytest.mark.parametrize("order", FAST_ORDERS)
@pytest.mark.parametrize(
    ("module", "case"),
    {(hang.module, hang.case): None for hang in HANGS.values()},
    ids=lambda value: getattr(value, "id", value),
)
def test_kernels_with_debug_waits_are_right(
    module: str, case: Case, order: str, capfd: pytest.CaptureFixture[str]
) -> None:
    y = case.run(emulator(order, module, debug_waits(module)))
    assert y.tobytes() == case.run(_C.Emulator()).tobytes()
    assert case.is_right(y)
    assert capfd.readouterr().out == ""


@pytest.mark.parametrize("order", FAST_ORDERS)
@pytest.mark.parametrize("hang", HANGS.values(), ids=HANGS)
def test_planted_deadlock_is_reported(hang: Hang, order: str) -> None:
    text = Text(debug_waits(hang.module), hang.kernel, stage_bytes=1)
    hang.edit(text)
    with pytest.raises(_C.EmulatorError) as error:
        hang.case.run(emulator(order, hang.module, text.text()))
    head, printed, *lines = str(error.value).splitlines()
    assert re.match(rf"kernel {hang.kernel}: block .*, warp .*: executes trap$", head)
    assert printed == "printed by the kernel:"
    line = re.compile(
        rf"kernel {hang.kernel}: block \(\d,\d,0\), warp (\d+): {WAITED}[01] of mbarrier "
    )
    found = [line.match(each) for each in lines]
    assert {int(match[1]) for match in found if match} == hang.warps
    assert None not in found
    assert len(set(lines)) == len(lines), "one line for each warp"
    for pattern in hang.lines:
        assert any(re.search(pattern, each) for each in lines), pattern
    assert any(LAUNCHES in each for each in lines) == any(LAUNCHES in p for p in hang.lines)


def test_ordinary_kernels_do_not_print() -> None:
    """The switch is off unless the build asks for it; these modules are of the same build."""
    for name, text in _C.emulator_modules().items():
        if "%globaltimer" in text and name.startswith("sm90/"):
            pytest.skip("this build has VGG_CUDA_DEBUG_WAITS")
        assert "vprintf" not in text, name
    for name in _C.emulator_modules(debug_waits=True):
        assert "vprintf" in debug_waits(name)
