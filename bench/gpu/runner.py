"""Run steps in order within a deadline; a failed step does not stop the others.

Everything that can hang or crash runs as a child process in a separate session, which is killed at
the step's limit or at the deadline. ``summary.json`` is replaced before and after every step, so
that it is always complete up to the current step.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from .processes import end_session, ends_with_this

ROOT = Path(__file__).resolve().parents[2]
MIN_STEP_S = 3.0  # no step is started with less time left
TAIL = 3000  # characters of a step's output in the summary
LOG_BYTES = 1 << 20  # of one child's output in the log

Status = Literal["ok", "failed", "skipped", "timeout", "running", "pending"]


@dataclass
class Result:
    """How a step ended; ``data`` goes into the summary."""

    status: Status = "ok"
    reason: str = ""
    data: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Step:
    """A step; skipped if one of the steps in ``needs`` failed. An ``optional`` step may fail."""

    name: str
    limit_s: float
    run: Callable[[Run], Result]
    needs: tuple[str, ...] = ()
    optional: bool = False


@dataclass(frozen=True)
class Child:
    """A process that has ended; ``output`` includes stderr unless that is in ``errors``."""

    code: int
    output: str
    timed_out: bool
    errors: str = ""

    def result(self, reason: str = "", **data: Any) -> Result:
        """Return a step's result: a timeout, a failure for a nonzero code, or ok."""
        if self.timed_out:
            return Result("timeout", f"killed at its limit; {reason}".rstrip("; "), data)
        if self.code:
            return Result("failed", f"exit status {self.code}; {reason}".rstrip("; "), data)
        return Result("ok", reason, data)

    def objects(self) -> list[dict[str, Any]]:
        """Return the JSON objects in ``output`` that begin at the start of a line."""
        found = []
        for start in re.finditer(r"^\{", self.output, re.MULTILINE):
            with contextlib.suppress(json.JSONDecodeError):
                found.append(json.JSONDecoder().raw_decode(self.output, start.start())[0])
        return found

    def last_line(self) -> str:
        """Return the last line of stderr if it is separate and not empty, else of the output."""
        lines = (self.errors.strip() or self.output.strip()).splitlines()
        return lines[-1] if lines else ""


class Interrupted(BaseException):
    """Raised by a signal that asks the run to end."""


class Run:
    """One run: its folders, the ``facts`` that steps found, and the time left."""

    def __init__(
        self, out: Path, work: Path, *, deadline_s: float, dry_run: bool,
        env: Mapping[str, str] | None = None,
    ) -> None:  # fmt: skip
        self.out, self.work, self.dry_run = out, work, dry_run
        self.env = dict(os.environ if env is None else env)
        self.facts: dict[str, Any] = {}
        self.rows: list[dict[str, Any]] = []
        self._start = time.monotonic()
        self.deadline_s = deadline_s
        self._end = self._start + deadline_s
        self._step_end = self._end
        self._said = ""
        self._unmet: set[str] = set()
        self._late: set[str] = set()
        for folder in (out, work):
            folder.mkdir(parents=True, exist_ok=True)

    def left(self) -> float:
        """Return the seconds left for this step."""
        return max(0.0, self._step_end - time.monotonic())

    def steps(self, steps: Sequence[Step]) -> bool:
        """Run the steps; return whether all steps that could run have passed."""
        self.rows = [
            {"name": step.name, "status": "pending", "optional": step.optional} for step in steps
        ]
        interrupted = ""
        for step, row in zip(steps, self.rows, strict=True):
            begun = time.monotonic()
            row["status"] = "running"
            self._step_end = min(begun + step.limit_s, self._end)
            self._said = ""
            self.write_summary()
            say(f"{step.name} ...")
            missing = [name for name in step.needs if name in self._unmet]
            try:
                if interrupted:
                    result = Result("skipped", interrupted)
                elif missing:
                    self._unmet.add(step.name)
                    result = Result("skipped", f"needs {', '.join(missing)}")
                elif self._end - begun < MIN_STEP_S:
                    self._unmet.add(step.name)
                    self._late.add(step.name)
                    result = Result("skipped", f"no time: the deadline is {self.deadline_s:.0f} s")
                else:
                    result = step.run(self)
            except Interrupted as reason:
                interrupted = str(reason)
                result = Result("failed", interrupted)
            except Exception as error:
                self._said += traceback.format_exc()
                result = Result("failed", f"{type(error).__name__}: {error}")
            row |= {"status": result.status, "seconds": round(time.monotonic() - begun, 1)}
            row |= {"reason": result.reason, **result.data}
            if result.status in ("failed", "timeout"):
                self._unmet.add(step.name)
            if result.status != "ok":
                row["tail"] = self._said[-TAIL:]
            self.write_summary()
        return self.passed() and not interrupted

    def child(
        self, command: Sequence[str | Path], *, limit_s: float | None = None,
        env: Mapping[str, str] | None = None, separate_stderr: bool = False,
    ) -> Child:  # fmt: skip
        """Run a program in ``work`` until it ends or its time is up, and log its output.

        With ``separate_stderr``, the child's ``output`` is stdout alone, for parsing.
        """
        words = [str(word) for word in command]
        limit = self.left() if limit_s is None else min(limit_s, self.left())
        paths = self.work / "output.txt", self.work / "errors.txt"
        with paths[0].open("wb") as file, paths[1].open("wb") as errors:
            process = subprocess.Popen(
                ends_with_this(words), cwd=self.work, env=self.env | dict(env or {}),
                stdin=subprocess.DEVNULL, stdout=file,
                stderr=errors if separate_stderr else subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
            timed_out = False
            try:
                process.wait(limit)
            except subprocess.TimeoutExpired:
                timed_out = True
            finally:  # also after an interruption, and for processes that the child left running
                end_session(process)
        texts = [path.read_bytes()[-LOG_BYTES:].decode(errors="replace") for path in paths]
        with (self.out / "log.txt").open("a", encoding="utf-8") as log:
            log.write(f"$ {shlex.join(words)}\n{''.join(texts)}\n")
        self._said += "".join(texts)
        code = process.returncode  # None if not even SIGKILL ended it
        return Child(-signal.SIGKILL if code is None else code, texts[0], timed_out, texts[1])

    def python(self, *arguments: str | Path, **options: Any) -> Child:
        """Run this Python with ``arguments``; the options are as for ``child``."""
        return self.child([sys.executable, *arguments], **options)

    def passed(self) -> bool:
        """Return whether required steps passed or were skipped in time, and at least one ran."""
        needed = {row["name"]: row["status"] for row in self.rows if not row["optional"]}
        states = set(needed.values())
        return states <= {"ok", "skipped"} and "ok" in states and not self._late & set(needed)

    def write_summary(self) -> None:
        """Write the current state as ``summary.json``."""
        states = [row["status"] for row in self.rows]
        summary = {
            "schema": 1,
            "dry_run": self.dry_run,
            "finished": not {"pending", "running"} & set(states),
            "passed": self.passed(),
            "seconds": round(time.monotonic() - self._start, 1),
            "deadline_s": self.deadline_s,
            **self.facts,
            "steps": self.rows,
        }
        write_json(self.out / "summary.json", summary)

    def table(self) -> str:
        """Return a table of the steps as text."""
        width = max(len(row["name"]) for row in self.rows)
        return "\n".join(
            f"{row['name']:{width}}  {row['status']:8} {row.get('seconds', 0):6.1f} s  "
            f"{row.get('reason', '').splitlines()[0] if row.get('reason') else ''}".rstrip()
            for row in self.rows
        )


def say(text: str) -> None:
    """Print ``text``; a closed standard output is no error."""
    try:
        print(text, flush=True)
    except (OSError, ValueError):  # redirect the closed output, which Python flushes at exit
        with contextlib.suppress(OSError, ValueError):
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, sys.stdout.fileno())
            os.close(null)


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` as JSON, completely or not at all."""
    partial = path.with_name(path.name + ".partial")
    partial.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
    partial.replace(path)
