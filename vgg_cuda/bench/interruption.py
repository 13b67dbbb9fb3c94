"""Ctrl-C and SIGTERM during a run: noted, so that what was measured can be written."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from ..files import remove_unfinished

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupted(Exception):  # noqa: N818 (no error)
    """Somebody wants the run to end."""


class Interruption:
    """``number``: of the signal that came, if one did.

    A first signal is only noted: an exception could strike in the middle of anything. A second one
    ends everything at once.
    """

    def __init__(self) -> None:
        self.number: int | None = None
        self._kill: list[Callable[[], None]] = []

    def check(self) -> None:
        """Raises :class:`Interrupted` where a signal came."""
        if self.number is not None:
            raise Interrupted

    def on_second_signal(self, kill: Callable[[], None]) -> None:
        """Calls ``kill`` before this process ends at once."""
        self._kill.append(kill)

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Signals are noted here while it is open; those that were ignored are, as by ``nohup``."""
        heard = [each for each in SIGNALS if signal.getsignal(each) is not signal.SIG_IGN]
        before = {number: signal.signal(number, self._note) for number in heard}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _note(self, number: int, _: Any) -> None:
        if self.number is None:
            self.number = number
            return
        for kill in self._kill:
            kill()
        remove_unfinished()
        os._exit(128 + number)
