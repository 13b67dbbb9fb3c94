"""Edits that plant a fault in a kernel's PTX, and how the emulator reports them."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from support.mutants.cases import Case
from support.mutants.ptx_text import Statement, Text

from vgg_cuda import _C

Edit = Callable[[Text], None]

# ---- Texts of the emulator's errors ----

WRONG = "wrong numbers"
"""No error, but a result beyond the bound."""
NO_BARRIER = "without a barrier in between"
NO_SYNCWARP = "without a __syncwarp or a barrier in between"
FLIGHT = "asynchronously, and which has not been waited for"
RACE = (FLIGHT, NO_BARRIER, NO_SYNCWARP)
GROUP_FLIGHT = "by a cp.async that has not been waited for"
UNWRITTEN = "which was never written"
ANY_RACE = (GROUP_FLIGHT, NO_BARRIER, NO_SYNCWARP, UNWRITTEN)
AGAIN = "which was already written"
OUTSIDE = ("past its", "before its", "which is in no buffer")
DEADLOCK = ": deadlock: "
ARRIVALS = "arrivals in this phase"
USED = "that a wgmma.mma_async in flight uses"
RANK = "it holds the block's rank in the cluster"
TOO_EARLY = "before griddepcontrol.wait, while launches before this one may still run"

WAIT, EXPECT = "mbarrier.try_wait", "mbarrier.arrive.expect_tx"
COPY = "cp.async.bulk.tensor"


@dataclass(frozen=True)
class Mutant:
    """A fault in one kernel.

    ``found``: parts of the errors that it may cause, or WRONG. ``launch``: index of the edited
    launch in the plan. ``only_races``: whether only the race detector finds it.
    """

    name: str
    module: str
    case: Case
    edit: Edit
    found: tuple[str, ...]
    launch: int = 0
    only_races: bool = False

    @property
    def kernel(self) -> str:
        name: str = self.case.plan.as_dict()["launches"][self.launch]["kernel"]
        return name

    def text(self) -> str:
        """Return the module with the edited kernel alone."""
        plan = self.case.plan.as_dict()
        stages = plan["tiling"].get("stages") or 1
        stage_bytes = plan["launches"][self.launch]["smem_bytes"] // stages
        text = Text(_C.emulator_modules()[self.module], self.kernel, stage_bytes)
        self.edit(text)
        assert text.edits, f"{self.name}: nothing was changed"
        return text.text()


def each(opcode: str, *tags: str, by: Callable[[Statement], str | None]) -> Edit:
    """Replace every such instruction by what ``by`` returns; None leaves it."""

    def edit(text: Text) -> None:
        for statement in text.find(opcode, *tags):
            if (new := by(statement)) is not None:
                text.replace(statement, new)

    return edit


def all_of(*edits: Edit) -> Edit:
    """Make one edit after the other."""

    def edit(text: Text) -> None:
        for one in edits:
            one(text)

    return edit


def deletes(opcode: str, *tags: str) -> Edit:
    """Delete the instructions."""
    return each(opcode, *tags, by=lambda s: "")


def twice(opcode: str, *tags: str, then: str = "") -> Edit:
    """Put the instruction, or ``then``, behind the instruction."""
    return each(opcode, *tags, by=lambda s: f"{s.text} {then or s.text}")


def replaces(opcode: str, pattern: str, by: str, *tags: str) -> Edit:
    """Replace a pattern in the instructions that have it."""

    def edited(s: Statement) -> str | None:
        return re.sub(pattern, by, s.text) if re.search(pattern, s.text) else None

    return each(opcode, *tags, by=edited)


def with_operand(opcode: str, which: int, operand: str, *tags: str) -> Edit:
    """Replace operand number ``which``, counted from the destination."""

    def edited(s: Statement) -> str:
        operands = s.operands
        operands[which] = operand
        return f"{s.opcode} {', '.join(operands)};"

    return each(opcode, *tags, by=edited)


def move(s: Statement, value: str) -> str:
    """Return an instruction that sets the destination of ``s`` to ``value``."""
    opcode = s.opcode.split(".")
    kind = opcode[-2] if opcode[0] == "cvt" else "b64" if "wide" in opcode else opcode[-1]
    return f"mov.b{re.sub('[a-z]+', '', kind)} {s.operands[0]}, {value};"


def keeps(opcode: str, which: int, *tags: str) -> Edit:
    """The result is operand number ``which``."""
    return each(opcode, *tags, by=lambda s: move(s, s.operands[which]))


def is_zero(opcode: str, *tags: str) -> Edit:
    """The result is 0."""
    return each(opcode, *tags, by=lambda s: move(s, "0"))


def is_true(opcode: str, *tags: str) -> Edit:
    """The first operand, a predicate, becomes true."""
    return each(opcode, *tags, by=lambda s: f"setp.eq.u32 {s.operands[0]}, 0, 0;")


def does_not_wait(*tags: str) -> Edit:
    """Every wait for the mbarrier succeeds at once."""
    return is_true(WAIT, *tags)


def without_xor(*tags: str) -> Edit:
    """The first operand of every XOR stays as it is."""
    return keeps("xor.b32", 1, *tags)


def unmasked_addresses(text: Text) -> None:
    """Descriptors are made of whole addresses, not of their 18 bits.

    The lines of these instructions say nothing: the compiler moves them. Bits that are zero anyway
    need not be in the mask.
    """
    masks = [s for s in text.find("and.b32") if s.operands[2] in ("262128", "261120")]
    assert len(masks) >= 2, "A and B"
    for mask in masks:
        text.replace(mask, move(mask, mask.operands[1]))


def moves_boxes(which: int, *tags: str) -> Edit:
    """Boxes are one element further along dimension ``which``, counted from the innermost."""

    def edited(s: Statement) -> str:
        [coordinates] = re.findall(r"\{(.*?)\}", s.text)
        x = coordinates.split(",")[which].strip()
        return f"add.s32 {x}, {x}, 1; {s.text} add.s32 {x}, {x}, -1;"

    return each(COPY, *tags, by=edited)


def other_bias(opcode: str, bytes_further: int, *tags: str) -> Edit:
    """Loads without an offset read further values."""

    def edited(s: Statement) -> str | None:
        address = s.operands[1]
        further = address.replace("]", f"+{bytes_further}]")
        return None if "+" in address else s.text.replace(address, further)

    return each(opcode, *tags, by=edited)
