"""Ctrl-C and SIGTERM during a run: recorded, so that the measurements can still be written."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from .files import remove_unfinished

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def last_words(message: Callable[[], str]) -> Iterator[None]:
    """Print ``message()`` to standard error if a signal ends the program inside the block."""

    def stop(number: int, _: Any) -> None:
        remove_unfinished()
        os.write(2, f"{message()}\n".encode())
        os._exit(128 + number)

    with _handling(stop):
        yield


@contextmanager
def _handling(handler: Callable[[int, Any], None]) -> Iterator[None]:
    """Handle signals inside the block, except ignored ones (as by ``nohup``)."""
    handled = [each for each in SIGNALS if signal.getsignal(each) is not signal.SIG_IGN]
    before = {number: signal.signal(number, handler) for number in handled}
    try:
        yield
    finally:
        for number, previous in before.items():
            signal.signal(number, previous)


class Interrupted(Exception):  # noqa: N818 (not an error)
    """A signal asked the run to end."""


class Interruption:
    """Records signals; ``number`` is the first one's, or None.

    The first signal is only recorded, because an exception could be raised at any point of the
    code. The second one ends the program at once.
    """

    def __init__(self) -> None:
        self.number: int | None = None
        self._kill: list[Callable[[], None]] = []

    def check(self) -> None:
        """Raise :class:`Interrupted` if a signal was received."""
        if self.number is not None:
            raise Interrupted

    def on_second_signal(self, kill: Callable[[], None]) -> None:
        """Call ``kill`` before a second signal ends this process."""
        self._kill.append(kill)

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Record signals inside the block, except ignored ones (as by ``nohup``)."""
        with _handling(self._record):
            yield

    def _record(self, number: int, _: Any) -> None:
        if self.number is None:
            self.number = number
            return
        for kill in self._kill:
            kill()
        remove_unfinished()
        os._exit(128 + number)
