"""Runs steps one after the other within a deadline; a failed one stops none of the others.

Everything that may hang or crash is a child process in a session of its own, killed whole at its
step's limit or at the deadline. ``summary.json`` is replaced before and after every step, so that
it is complete up to there whatever happens.
"""

from __future__ import annotations

import contextlib
import json
import os
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

ROOT = Path(__file__).resolve().parents[2]
LEAST_S = 3.0  # a step with less time than this is not begun
GRACE_S = 2.0  # between SIGTERM and SIGKILL
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
    """``needs``: steps without which this one is skipped; ``optional``: may fail."""

    name: str
    limit_s: float
    run: Callable[[Run], Result]
    needs: tuple[str, ...] = ()
    optional: bool = False


@dataclass(frozen=True)
class Child:
    """A process that has ended; ``output`` is stdout and stderr together."""

    code: int
    output: str
    timed_out: bool

    def result(self, reason: str = "", **data: Any) -> Result:
        """Fails for a code other than 0 and for a timeout."""
        if self.timed_out:
            return Result("timeout", f"killed at its limit; {reason}".rstrip("; "), data)
        if self.code:
            return Result("failed", f"exit status {self.code}; {reason}".rstrip("; "), data)
        return Result("ok", reason, data)


class Interrupted(BaseException):
    """SIGTERM or SIGINT."""


class Run:
    """One run: where its files are, what its steps found out (``facts``), how much time is left."""

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
        for folder in (out, work):
            folder.mkdir(parents=True, exist_ok=True)

    def left(self) -> float:
        """Seconds that this step still has."""
        return max(0.0, self._step_end - time.monotonic())

    def steps(self, steps: Sequence[Step]) -> bool:
        """Runs them; have all passed that could run?"""
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
            print(f"{step.name} ...", flush=True)
            bad = {r["name"] for r in self.rows if r["status"] in ("failed", "timeout")}
            try:
                if interrupted:
                    result = Result("skipped", interrupted)
                elif self._end - begun < LEAST_S:
                    result = Result("skipped", f"no time: the deadline is {self.deadline_s:.0f} s")
                elif bad.intersection(step.needs):
                    result = Result("skipped", f"needs {', '.join(step.needs)}")
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
            if result.status != "ok":
                row["tail"] = self._said[-TAIL:]
            self.write_summary()
        return self.passed() and not interrupted

    def child(
        self, command: Sequence[str | Path], *, limit_s: float | None = None,
        env: Mapping[str, str] | None = None,
    ) -> Child:  # fmt: skip
        """Runs a program in ``work`` until it ends or the time is up, and logs its output."""
        words = [str(word) for word in command]
        limit = self.left() if limit_s is None else min(limit_s, self.left())
        output = self.work / "output.txt"
        with output.open("wb") as file:
            process = subprocess.Popen(
                words, cwd=self.work, env=self.env | dict(env or {}), stdin=subprocess.DEVNULL,
                stdout=file, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
            timed_out = False
            try:
                process.wait(limit)
            except subprocess.TimeoutExpired:
                timed_out = True
            finally:  # also what it left running, and where this process was interrupted
                end_session(process)
        text = output.read_bytes()[-LOG_BYTES:].decode(errors="replace")
        with (self.out / "log.txt").open("a", encoding="utf-8") as log:
            log.write(f"$ {shlex.join(words)}\n{text}\n")
        self._said += text
        code = process.returncode  # None for what not even SIGKILL ends
        return Child(-signal.SIGKILL if code is None else code, text, timed_out)

    def python(self, *arguments: str | Path, **options: Any) -> Child:
        """As ``child``, of this Python."""
        return self.child([sys.executable, *arguments], **options)

    def passed(self) -> bool:
        """Has everything that could run, and must?"""
        needed = [row["status"] for row in self.rows if not row["optional"]]
        return set(needed) <= {"ok", "skipped"}

    def write_summary(self) -> None:
        """What there is, as ``summary.json``."""
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
        """For a person."""
        width = max(len(row["name"]) for row in self.rows)
        return "\n".join(
            f"{row['name']:{width}}  {row['status']:8} {row.get('seconds', 0):6.1f} s  "
            f"{row.get('reason', '').splitlines()[0] if row.get('reason') else ''}".rstrip()
            for row in self.rows
        )


def write_json(path: Path, value: Any) -> None:
    """Whole or not at all."""
    partial = path.with_name(path.name + ".partial")
    partial.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
    partial.replace(path)


def end_session(process: subprocess.Popen[bytes]) -> None:
    """Ends what is left of the session that ``process`` leads, whatever groups it made."""
    for number, patience in ((signal.SIGTERM, GRACE_S), (signal.SIGKILL, GRACE_S)):
        end = time.monotonic() + patience
        first = True
        while members := session(process.pid):
            if first or number == signal.SIGKILL:
                for pid in members:
                    with contextlib.suppress(ProcessLookupError, PermissionError):
                        os.kill(pid, number)
            first = False
            process.poll()
            if time.monotonic() > end:
                break
            time.sleep(0.02)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(GRACE_S)


def session(leader: int) -> list[int]:
    """The processes of a session that have not ended."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            # after the name, which may hold anything: state, parent, group, session
            words = stat.read_text(errors="replace").rpartition(")")[2].split()
            if int(words[3]) == leader and words[0] not in "ZX":
                found.append(int(stat.parent.name))
    return found
