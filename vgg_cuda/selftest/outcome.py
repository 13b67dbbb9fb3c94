"""Messages between the self-test and its child processes."""

from __future__ import annotations

from typing import Literal

import msgspec

Kind = Literal["ok", "wrong", "refused", "hung", "crashed", "not run"]


class Job(msgspec.Struct, frozen=True):
    """Task of a child process.

    - ``part``: a key of ``worker.PARTS``; ``device`` and ``arch``: as for ``get_backend``.
    - ``repeats``: number of equal forwards.
    - ``digests``: expected digests of the results of forwards, by forward; empty to find them.
    """

    part: str
    device: str
    arch: str
    repeats: int = 1
    digests: dict[str, str] = {}


class Outcome(msgspec.Struct, frozen=True):
    """Findings of a child process.

    - ``detail``: one line about any other verdict than "ok".
    - ``cases``: number of comparisons; ``worst``: their largest error as a fraction of its bound.
    - ``families``: the verdicts of kernel families, "portable" included, with failures.
    - ``digests``: digests of the results of forwards.
    - ``started``: whether the child process got as far as opening the device.
    """

    verdict: Kind
    detail: str = ""
    cases: int = 0
    worst: float = 0.0
    families: dict[str, Kind] = {}
    digests: dict[str, str] = {}
    started: bool = True


class Ready(msgspec.Struct, frozen=True, tag="ready"):
    """The child has its device: the time limit starts."""


class Started(msgspec.Struct, frozen=True, tag="started"):
    """The child is about to launch ``case``."""

    case: str


class Done(msgspec.Struct, frozen=True, tag="done"):
    """The child's last message."""

    outcome: Outcome


Event = Ready | Started | Done
