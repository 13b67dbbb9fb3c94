"""Faults, each beside the same program done right, and what is to be said of it."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from support.ptx_programs import SOURCE, Buffer, every_order, line_of, run

from vgg_cuda import _C

__all__ = ["Pair", "assert_fails", "every_order"]

Buffers = Callable[[], list[Buffer]]


@dataclass(frozen=True)
class Pair:
    """``fault`` in ``program``'s place of FAULT, and ``right`` in its place.

    ``messages``: one of them is to be the error's, * standing for anything and {NAME} for the place
    of the line that is marked so; "@ w l" stands for a thread of block 0 and the place of the line
    marked HERE.
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


def assert_fails(pair: Pair, **options: Any) -> None:
    with pytest.raises(_C.EmulatorError) as error:
        pair.run(fault=True, **options)
    message, patterns = str(error.value), pair.patterns()
    assert any(re.fullmatch(pattern, message) for pattern in patterns), f"{message}\n{patterns}"
