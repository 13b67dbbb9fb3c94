"""``make gpu``: the deadline, interruptions, what is written, and its arguments."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from gpu import __main__ as command
from gpu import machine, processes, runner, steps
from gpu.runner import Result, Run, Step
from support.gpu_runs import fresh

ROOT = Path(__file__).parents[2]
HANGS = "import time, subprocess, sys; print('begun', flush=True); {}; time.sleep(60)"


def state(pid: int) -> str:
    """Return the state of a process from /proc; X if it has ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "X"


def summary(run: Run) -> dict[str, Any]:
    return dict(json.loads((run.out / "summary.json").read_text()))


def fine(run: Run) -> Result:
    return run.python("-c", "print('fine')").result("said so", figure=3)


def raises(run: Run) -> Result:
    raise ValueError("planted")


def test_failed_step_does_not_stop_others(tmp_path: Path) -> None:
    run = fresh(tmp_path)
    fails = Step("fails", 20, lambda run: run.python("-c", "print('why'); exit(3)").result())
    needing = Step("needing", 20, fine, needs=("fails",))
    given = [fails, Step("raises", 20, raises), needing, Step("fine", 20, fine)]
    assert not run.steps(given)
    rows = {row["name"]: row for row in summary(run)["steps"]}
    assert [row["status"] for row in rows.values()] == ["failed", "failed", "skipped", "ok"]
    assert rows["fails"]["reason"] == "exit status 3"
    assert rows["fails"]["tail"] == "why\n"
    assert rows["raises"]["reason"] == "ValueError: planted"
    assert rows["needing"]["reason"] == "needs fails"
    assert rows["fine"]["figure"] == 3
    assert summary(run)["finished"]
    assert not summary(run)["passed"]
    assert "fails    failed" in run.table()
    assert "why" in (run.out / "log.txt").read_text()


def test_run_passes_if_a_step_ran_in_time(tmp_path: Path) -> None:
    def skipped(run: Run) -> Result:
        return Result("skipped", "no GPU")

    run = fresh(tmp_path)
    assert not run.steps([Step("skipped", 20, skipped)])
    assert not summary(run)["passed"]
    assert run.steps([Step("skipped", 20, skipped), Step("fine", 20, fine)])
    run = fresh(tmp_path, deadline_s=runner.MIN_STEP_S + 0.5)

    def slow(run: Run) -> Result:
        time.sleep(0.6)
        return Result()

    late = Step("late", 20, fine)
    assert not run.steps([Step("slow", 20, slow), late, Step("needing", 20, fine, ("late",))])
    assert [row["status"] for row in run.rows] == ["ok", "skipped", "skipped"]
    assert run.rows[2]["reason"] == "needs late"


def test_an_optional_step_may_fail(tmp_path: Path) -> None:
    run = fresh(tmp_path)
    assert run.steps([Step("raises", 20, raises, optional=True), Step("fine", 20, fine)])
    assert summary(run)["passed"]


def test_deadline_kills_a_step_and_its_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also a process in another group, and one that ignores SIGTERM."""
    monkeypatch.setattr(processes, "GRACE_S", 0.3)
    monkeypatch.setattr(runner, "MIN_STEP_S", 0.5)
    stubborn = "import signal, time; signal.signal(15, signal.SIG_IGN); time.sleep(60)"
    more = f"p = subprocess.Popen([sys.executable, '-c', {stubborn!r}], process_group=0)"
    if sys.version_info < (3, 11):
        more = more.replace("process_group=0", "preexec_fn=__import__('os').setpgrp")
    program = HANGS.format(more + "; print(p.pid, flush=True)")
    run = fresh(tmp_path, deadline_s=3)
    begun = time.monotonic()
    given = [Step("hangs", 30, lambda run: run.python("-c", program).result())]
    assert not run.steps([*given, Step("late", 30, fine)])
    assert time.monotonic() - begun < 8
    hangs, late = summary(run)["steps"]
    assert hangs["status"] == "timeout"
    assert hangs["tail"].startswith("begun")
    assert (late["status"], late["reason"]) == ("skipped", "no time: the deadline is 3 s")
    assert state(int(hangs["tail"].split()[1])) in "ZX"


def test_step_has_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "GRACE_S", 0.3)
    run = fresh(tmp_path)
    hangs = Step("hangs", 1, lambda run: run.python("-c", HANGS.format("0")).result())
    assert not run.steps([hangs, Step("fine", 20, fine)])
    assert [row["status"] for row in run.rows] == ["timeout", "ok"]


PROGRAM = """
import sys
from gpu.__main__ import main
from gpu.runner import Result, Step
fine = Step("fine", 20, lambda run: Result("ok"))
hangs = Step("hangs", 60, lambda run: run.python("-c", {hangs!r}).result())
sys.exit(main(["--out", sys.argv[1]], [fine, hangs, fine]))
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_the_summary_is_whole_after_a_kill(tmp_path: Path, number: signal.Signals) -> None:
    env = {**os.environ, "PYTHONPATH": str(ROOT / "bench")}
    words = [sys.executable, "-c", PROGRAM.format(hangs=HANGS.format("0")), str(tmp_path)]
    process = subprocess.Popen(words, env=env, cwd=tmp_path, stdout=subprocess.DEVNULL)
    path = tmp_path / "summary.json"
    end = time.monotonic() + 30
    while '"running"' not in (path.read_text() if path.exists() else ""):
        assert time.monotonic() < end, "nothing was begun"
        time.sleep(0.05)
    while json.loads(path.read_text())["steps"][1]["status"] != "running":
        assert time.monotonic() < end, "the second step was not begun"
        time.sleep(0.05)
    time.sleep(0.2)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    process.send_signal(number)
    assert process.wait(20) == (1 if number == signal.SIGTERM else -signal.SIGKILL)
    states = [row["status"] for row in json.loads(path.read_text())["steps"]]
    if number == signal.SIGTERM:
        assert states == ["ok", "failed", "skipped"]
    else:
        assert states == ["ok", "running", "pending"]
    assert children
    end = time.monotonic() + 10
    while any(state(int(child)) not in "ZX" for child in children):
        assert time.monotonic() < end, "a child outlives the runner"
        time.sleep(0.05)


def test_json_is_found_in_other_output(tmp_path: Path) -> None:
    run = fresh(tmp_path)
    program = (
        "import json, sys; print('{noise'); print(json.dumps({'a': {'b': 1}}, indent=1), 'more')\n"
        "print('{\"c\": 2}'); print('{\"d\": 3}', file=sys.stderr)"
    )
    child = run.python("-c", program, separate_stderr=True)
    assert child.objects() == [{"a": {"b": 1}}, {"c": 2}]
    assert child.last_line() == '{"d": 3}'
    assert '"d"' not in child.output
    assert '"d"' in (run.out / "log.txt").read_text()
    assert run.python("-c", "print('{cut')", separate_stderr=True).objects() == []


def test_missing_program_fails_in_one_line(tmp_path: Path) -> None:
    child = fresh(tmp_path).child(["no-such-program", "x"])
    assert (child.code, child.output) == (1, "no-such-program: No such file or directory\n")


def test_missing_packages_fail_the_first_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A lease of a GPU is short: the run does not go on to fail at each step."""
    assert machine.missing_packages() == []
    project = tmp_path / "pyproject.toml"
    project.write_text('dependencies = [\n  "numpy>=1.26",\n  "no-such.package>=1",\n]\n')
    missing = machine.missing_packages(project)
    monkeypatch.setattr(machine, "missing_packages", lambda: missing)
    result = steps.environment(fresh(tmp_path))
    assert result.status == "failed"
    assert "missing packages: no-such.package; " in result.reason


def test_closed_stdout_is_ignored(tmp_path: Path) -> None:
    program = PROGRAM.format(hangs="print('done')").replace("main([", "main(['--only', 'hangs', ")
    env = {**os.environ, "PYTHONPATH": str(ROOT / "bench")}
    words = [sys.executable, "-c", program, str(tmp_path)]
    read, write = os.pipe()
    os.close(read)
    ended = subprocess.run(
        words, env=env, cwd=tmp_path, stdout=write, stderr=subprocess.PIPE, timeout=30, check=False
    )
    os.close(write)
    assert (ended.returncode, ended.stderr) == (0, b"")
    assert json.loads((tmp_path / "summary.json").read_text())["passed"]


def test_a_long_output_is_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "LOG_BYTES", 1000)
    run = fresh(tmp_path)
    child = run.python("-c", "print('a' * 5000 + 'end')")
    assert len(child.output) == 1000
    assert child.output.endswith("end\n")
    assert (run.out / "log.txt").stat().st_size < 1200


def test_bad_arguments_print_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    earlier, file = tmp_path / "summary.json", tmp_path / "file"
    earlier.write_text("of an earlier run")
    file.touch()
    (tmp_path / "taken" / "log.txt").mkdir(parents=True)
    for words, said in (
        (["--only", "tests2"], "--only: expected some of environment, build"),
        (["--deadline", "0"], "--deadline: expected a positive number of seconds, got 0"),
        (["--deadline", "nan"], "--deadline: expected a positive number of seconds, got nan"),
        (["--out", str(file)], f"--out: expected a writable folder, got {file}: File exists"),
        (["--out", str(file / "x")], f"expected a writable folder, got {file / 'x'}: Not a"),
        (["--out", str(tmp_path / "taken")], "expected a writable folder, got"),
        (["--out", "/proc/here"], "expected a writable folder, got /proc/here: "),
    ):
        with pytest.raises(SystemExit) as ended:
            command.main(["--out", str(tmp_path), *words])
        assert ended.value.code == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert said in line
    assert earlier.read_text() == "of an earlier run"


def test_only_runs_what_the_steps_need() -> None:
    def names(*words: str) -> list[str]:
        return [s.name for s in command.chosen(steps.all_steps("auto"), command.parse([*words]))]

    assert names("--only", "ncu") == ["environment", "build", "bench", "ncu"]
    assert names("--only", "environment") == ["environment"]
    assert len(names()) == len(steps.all_steps("auto"))


@pytest.mark.skipif(shutil.which("make") is None, reason="there is no make")
def test_make_prefers_the_named_python(tmp_path: Path) -> None:
    python = tmp_path / "bin" / "python"
    python.parent.mkdir()
    python.touch()
    env = {k: v for k, v in os.environ.items() if k not in ("PYTHON", "MAKEFLAGS", "MAKELEVEL")}

    def chosen(*words: str, **more: str) -> str:
        command = ["make", "-n", "-C", str(ROOT), "gpu", *words]
        ran = subprocess.run(command, env=env | more, capture_output=True, text=True, check=True)
        return str(re.findall(r"(\S+) -m gpu", ran.stdout)[0])

    assert chosen(f"VENV={tmp_path}") == str(python)
    assert chosen(f"VENV={tmp_path / 'none'}") == "python3"
    assert chosen(f"VENV={tmp_path}", "PYTHON=mine") == "mine"
    assert chosen(f"VENV={tmp_path}", PYTHON="mine") == "mine"
