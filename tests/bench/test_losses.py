"""Measurements survive interruptions, bad replies of adapters, and a full disk."""

from __future__ import annotations

import functools
import itertools
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.bench_fakes import Scripted
from typer.testing import CliRunner

from vgg_cuda.bench import output, suite
from vgg_cuda.bench.measure import REPLIES, Timeouts, measure
from vgg_cuda.bench.options import Options, resolve
from vgg_cuda.bench.report import Report, Result, read, typed
from vgg_cuda.bench.results import valid
from vgg_cuda.bench.suite import Suite
from vgg_cuda.bench.work import Work
from vgg_cuda.bench.workers import WorkerDied
from vgg_cuda.cli import bench as command
from vgg_cuda.cli import bench_table as table
from vgg_cuda.cli.main import app
from vgg_cuda.system.interruption import Interrupted, Interruption

SHAPES = ["--shape", "1,8,8,3,4", "--shape", "1,8,8,3,5"]
WORDS = ["bench", "kernel", *SHAPES, "--peers", "torch", "--device", "cpu", "--noise", "1e-6"]


def until(n: int, end: Callable[[], None]) -> Iterator[float]:
    """Yield ``n`` times, alternately 1 and 2 seconds, then call ``end``, which raises."""
    for i in range(n):
        yield 1.0 + i % 2
    end()


def raising(error: Exception) -> Callable[[], None]:
    def end() -> None:
        raise error

    return end


def workers(n: int, end: Callable[[Interruption], Callable[[], None]]) -> Any:
    """Return a function that starts workers; ``end`` runs after the n-th sample of torch."""

    def start(name: str, stop: Interruption) -> Any:
        times = until(n, end(stop)) if name == "torch" else itertools.cycle([1.0, 2.0])
        return Scripted(name, times, per_slice=1 if name != "ceilings" else 2000)

    return start


def interrupting(stop: Interruption) -> Callable[[], None]:
    def end() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        stop.check()

    return end


ERRORS = [Interrupted(), OSError("planted: no room"), MemoryError("planted")]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_errors_keep_earlier_measurements(error: Exception) -> None:
    asked = resolve(Options("kernel", shapes=("1,8,8,3,4",), peers=("torch",), device="cpu"))
    runner = Suite(asked, Interruption(), start=workers(7, lambda _: raising(error)))
    report = runner.run()
    assert report.interrupted
    assert runner.error is (None if isinstance(error, Interrupted) else error)
    assert [(r.peer, r.status) for r in report.results] == [("vgg_cuda", "ok"), ("torch", "ok")]
    assert report.results[1].samples == 7
    assert report.results[1].ratio is not None
    Report.to_json(report)


def bench(monkeypatch: pytest.MonkeyPatch, folder: Path, start: Any, *words: str) -> Any:
    monkeypatch.chdir(folder)
    monkeypatch.setattr(suite, "Suite", functools.partial(Suite, start=start))
    return CliRunner().invoke(app, [*WORDS, "--output", "r.json", *words])


def test_interrupted_run_writes_work_in_progress(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "r.json").write_text("old")
    found = bench(monkeypatch, tmp_path, workers(5, interrupting))
    assert found.exit_code == 130
    assert found.stderr == "interrupted: the measurements until then are reported\n"
    report = read(tmp_path / "r.json")
    assert report.interrupted
    assert [r.samples for r in report.results] == [6, 5]


def test_interrupted_run_without_times_keeps_old_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "r.json").write_text("old")

    def start(name: str, stop: Interruption) -> Any:
        times = until(0, interrupting(stop)) if name != "ceilings" else itertools.repeat(1.0)
        return Scripted(name, times, per_slice=1)

    found = bench(monkeypatch, tmp_path, start)
    assert found.exit_code == 130
    assert found.stderr == "interrupted: nothing was measured; r.json is not written\n"
    assert (tmp_path / "r.json").read_text() == "old"


def test_system_error_follows_the_written_report(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    start = workers(5, lambda _: raising(OSError("planted: no room")))
    found = bench(monkeypatch, tmp_path, start)
    assert found.exit_code == 2
    assert found.stderr == "wrote r.json\nerror: planted: no room\n"
    assert "torch" in found.stdout
    assert len(read(tmp_path / "r.json").results) == 2


def test_unwritable_report_is_still_printed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(output, "write", lambda *_: raising(ValueError("planted: invalid"))())
    found = bench(monkeypatch, tmp_path, workers(99, lambda _: raising(Interrupted())), "--noise=9")
    assert found.exit_code == 2
    assert found.stderr == "error: planted: invalid\n"
    assert "torch" in found.stdout


def test_plot_without_times_is_not_written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")

    def start(name: str, stop: Interruption) -> Any:
        return Scripted(name, itertools.repeat(1.0), error=0.5)

    found = bench(monkeypatch, tmp_path, start, "--plot", "p.svg")
    assert found.exit_code == 1  # it is wrong
    assert found.stderr == ("wrote r.json\np.svg is not written: no result has a time to plot\n")
    assert not (tmp_path / "p.svg").exists()


LOST, KILLED = WorkerDied("failed", "killed by SIGKILL"), "failed (killed by SIGKILL)"


@pytest.mark.parametrize(
    ("lost", "left", "reasons"),
    [
        ({"sample": LOST}, None, {"copy": KILLED, "matmul": "failed (its process had ended)"}),
        ({"open": LOST}, None, {"copy": KILLED, "matmul": KILLED}),
        ({}, 0.9, {"copy": "no time", "matmul": "no time"}),
        ({}, None, None),
    ],
    ids=["sample", "open", "budget", "fine"],
)
def test_missing_ceilings_have_a_reason(
    lost: dict[str, Any], left: float | None, reasons: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = []

    def start(name: str, stop: Interruption) -> Any:
        mine = lost if name == "ceilings" else {}
        started.append(Scripted(name, itertools.repeat(1.0), lost=mine))
        return started[-1]

    options = Options("kernel", shapes=("1,8,8,3,4",), peers=(), device="cpu", budget=9.0)
    runner = Suite(resolve(options), Interruption(), start=start)
    monkeypatch.setattr(runner, "_left", lambda: left)
    report = runner.run()
    assert report.environment.get("no_ceilings") == reasons
    assert bool(report.ceilings) == (reasons is None)
    assert not any(worker.alive for worker in started)
    Report.to_json(report)


# ---- Replies of adapters ----

SAMPLE = {"times": [1.0], "enqueue": [], "parts": []}
ANSWERS = {
    "nan": ("sample", SAMPLE | {"times": [float("nan")]}, r"times\[0\]: expected `float` > 1e-12"),
    "zero": ("sample", SAMPLE | {"times": [0.0]}, r"times\[0\]: expected `float` > 1e-12"),
    "negative": ("sample", SAMPLE | {"times": [-1.0]}, r"times\[0\]: expected `float` > 1e-12"),
    "text": ("sample", SAMPLE | {"times": ["1"]}, r"times\[0\]: expected `float`, got `str`"),
    "no-times": ("sample", SAMPLE | {"times": []}, "times: expected `array` of length >= 1"),
    "no-enqueue": ("sample", {"times": [1.0]}, "missing required field `enqueue`"),
    "part": ("sample", SAMPLE | {"parts": [[-1.0]]}, r"parts\[0\]\[0\]: expected `float` >= 0"),
    "how": ("prepare", {"how": 7}, "how: expected `str`, got `int`"),
    "kernels": ("prepare", {"kernels": "abc"}, "kernels: expected `array | null`, got `str`"),
    "versions": ("open", {"load_s": 1.0, "versions": ["a"]}, "versions: expected `object`"),
    "error": ("check", {"relative_error": "no"}, "relative_error: expected `float | null`"),
    "peak": ("finish", {"peak_bytes": -1}, "peak_bytes: expected `int` >= 0"),
    "warm": ("warm", {"call_s": float("inf")}, "call_s: expected `float` < 1000000000.0"),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_bad_replies_are_refused(name: str) -> None:
    do, reply, message = ANSWERS[name]
    with pytest.raises(ValueError, match=message):
        typed(reply, REPLIES[do])


def test_bad_reply_fails_that_program() -> None:
    bad = Scripted("bad", [float("nan")] * 9)
    odd = Scripted("odd", [1.0] * 99, said={"how": 7})
    fine = Scripted("fine", [1.0] * 99)
    found = measure(
        Work("model", "net", (1, 8, 8, 3)), [bad, odd, fine], exact="x", bound=1, noise=0.1,
        timeouts=Timeouts(9),
    )  # fmt: skip
    assert [taken.status for taken in found.values()] == ["failed", "failed", "ok"]
    assert found["bad"].reason == ("invalid reply to 'sample': times[0]: expected `float` > 1e-12")


def test_bad_reply_to_open_fails_that_program() -> None:
    def start(name: str, stop: Interruption) -> Any:
        opened = {"load_s": 0.1, "versions": ["a"]} if name == "torch" else None
        return Scripted(name, itertools.repeat(1.0), opened=opened)

    asked = resolve(Options("kernel", shapes=("1,8,8,3,4",), peers=("torch",), device="cpu"))
    report = Suite(asked, Interruption(), start=start).run()
    assert [r.status for r in report.results] == ["ok", "failed"]
    assert report.results[1].reason is not None
    assert "versions: expected `object`" in report.results[1].reason
    Report.to_json(report)


def test_invalid_result_is_a_failure() -> None:
    asked = resolve(Options("kernel", shapes=("1,8,8,3,4",), peers=(), device="cpu"))
    report = Suite(asked, Interruption()).report
    bad = Result(name="x", peer="p", batch=1, dtype="float32", status="ok", relative_error=0.0)
    found = valid(bad, report)
    assert (found.key, found.status) == (bad.key, "failed")
    assert "median_s: expected a time, or the emulator's counters" in (found.reason or "")
    assert valid(found, report) is found


def test_unreportable_settings_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="--seed: expected a whole number below 2\\^63"):
        resolve(Options("model", seed=99999999999999999999))
    path = tmp_path / os.fsdecode(b"bad\xff.safetensors")
    path.touch()
    with pytest.raises(ValueError, match="expected a path in UTF-8"):
        resolve(Options("model", str(path)))
    same = ("1,8,8,3,4", " 1,8,8,3,4", "1,8,8,3,5", "1,8,8,3,04")
    works = resolve(Options("kernel", shapes=same, device="cpu")).works
    assert [work.name for work in works] == ["n1-h8-w8-c3-k4", "n1-h8-w8-c3-k5"]


# ---- Around a run ----


def test_adapter_is_not_imported_in_parent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "explosive").mkdir()
    (tmp_path / "explosive" / "__init__.py").write_text("raise RuntimeError('planted')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    peers = ("explosive.adapter",)
    assert resolve(Options("kernel", shapes=("1,8,8,3,4",), peers=peers)).peers == peers
    assert "explosive" not in sys.modules


def test_closed_streams(monkeypatch: pytest.MonkeyPatch) -> None:
    """Python has None for them."""
    asked = resolve(Options("kernel", shapes=("1,8,8,3,4",), peers=(), device="cpu"))
    report = Suite(asked, Interruption()).report
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)
    table.print_report(report)
    with command.status() as say:
        say("something")


@pytest.mark.parametrize("name", ["SIGHUP", "SIGINT"])
def test_ignored_signals_stay_ignored(name: str) -> None:
    """From the entry point on, as under ``nohup``."""
    script = (
        "import os, signal\n"
        "from vgg_cuda.cli import main as cli\n"
        "from vgg_cuda.system.interruption import Interruption\n"
        "def run():\n"
        "    stop = Interruption()\n"
        "    with stop.watching():\n"
        f"        os.kill(os.getpid(), signal.{name})\n"
        "        stop.check()\n"
        f"    assert signal.getsignal(signal.{name}) is signal.SIG_IGN\n"
        f"signal.signal(signal.{name}, signal.SIG_IGN)\n"
        "cli.app = run\n"
        "cli.main()\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
