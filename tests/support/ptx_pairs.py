"""Faults, each beside the right program, and the errors that they raise."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from support.ptx_programs import ORDERS, SOURCE, Buffer, line_of, read, run

from vgg_cuda import _C

__all__ = [
    "NO_BARRIER",
    "NO_SYNCWARP",
    "SHARED",
    "TWO_WARPS",
    "Pair",
    "assert_fails_in_every_order",
    "assert_runs_in_every_order",
    "race",
    "source",
]

Buffers = Callable[[], list[Buffer]]


@dataclass(frozen=True)
class Pair:
    """One program twice: with ``fault`` and with ``right`` in place of the word FAULT.

    The fault raises one of ``messages``. In a message, * matches anything, {NAME} stands for the
    source line marked NAME, and "@ w l" stands for warp w, lane l of block 0 at the line HERE.
    """

    name: str
    program: str
    fault: str
    right: str
    messages: tuple[str, ...]
    buffers: Buffers = list
    launch: dict[str, Any] = field(default_factory=dict)
    right_launch: dict[str, Any] | None = None

    def run(self, fault: bool, **options: Any) -> None:
        launch = self.launch if fault or self.right_launch is None else self.right_launch
        run(self.body(fault), *self.buffers(), **launch, **options)

    def body(self, fault: bool) -> str:
        return self.program.replace("FAULT", self.fault if fault else self.right)

    def patterns(self) -> list[str]:
        body = self.body(True)
        places = {
            mark: f"{SOURCE}:{line_of(body, '// ' + mark)}"
            for mark in ("HERE", "THERE")
            if "// " + mark in body
        }
        patterns = []
        for message in self.messages:
            if message.startswith("@"):
                warp, lane, rest = message[2:].split(" ", 2)
                thread = int(warp) * 32 + int(lane) if (warp + lane).isdigit() else "*"
                who = f"block (0,0,0), warp {warp} lane {lane} (thread {thread})"
                message = f"{who}, {places['HERE']}: {rest}"
            for mark, place in places.items():
                message = message.replace(f"{{{mark}}}", place)
            patterns.append(re.escape("kernel example: " + message).replace(r"\*", ".*"))
        return patterns


def assert_fails_in_every_order(pair: Pair) -> None:
    """Run the fault in every order; each must raise one of the messages."""
    patterns = pair.patterns()
    for order, (schedule, lazy) in ORDERS.items():
        try:
            pair.run(fault=True, schedule=schedule, lazy=lazy)
        except _C.EmulatorError as error:
            message = str(error)
        else:
            pytest.fail(f"{order}: the fault raises no error")
        if not any(re.fullmatch(pattern, message) for pattern in patterns):
            pytest.fail(f"{order}: expected one of {patterns}, got {message}")


def assert_runs_in_every_order(pair: Pair) -> None:
    """Run the right program in every order; none may raise an error."""
    for order, (schedule, lazy) in ORDERS.items():
        try:
            pair.run(fault=False, schedule=schedule, lazy=lazy)
        except _C.EmulatorError as error:
            pytest.fail(f"{order}: {error}")


SHARED = """.shared .align 16 .b8 smem[{bytes}];
mov.u32 %r1, smem; mad.lo.u32 %r2, %tid, 4, %r1;
"""
TWO_WARPS = SHARED.format(bytes=256) + "setp.eq.u32 %p1, %warp, 0; mad.lo.u32 %r3, %lane, 4, %r1;\n"
NO_BARRIER = "without a barrier in between"
NO_SYNCWARP = "without a __syncwarp or a barrier in between"


def race(verb: str, done: str, why: str, warps: tuple[str, str] = ("*", "*")) -> tuple[str, ...]:
    """Return both messages of a race: either of the lines HERE and THERE may come second."""
    text = (
        "block (0,0,0), warp {} lane * (thread *), {}: race: {} shared memory byte * that "
        "warp {} lane * (thread *) {} ({}) {}"
    )
    late = {"wrote": "writes", "read": "reads", "writes": "wrote", "reads": "read"}
    return (
        text.format(warps[0], "{HERE}", verb, warps[1], done, "{THERE}", why),
        text.format(warps[1], "{THERE}", late[done], warps[0], late[verb], "{HERE}", why),
    )


def source() -> list[Buffer]:
    return [read("x", np.arange(256, dtype=np.uint32))]
