"""``make gpu``: the deadline, what is written, and the dry run; the launches need a GPU."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from gpu import __main__ as command
from gpu import machine, package, pytest_report, runner, steps, timing
from gpu.runner import Child, Result, Run, Step

from vgg_cuda.backends import why_missing

ROOT = Path(__file__).parents[1]
HANGS = "import time, subprocess, sys; print('begun', flush=True); {}; time.sleep(60)"


def fresh(tmp_path: Path, deadline_s: float = 60, dry_run: bool = True) -> Run:
    env = command.child_environment(tmp_path / "work")
    return Run(tmp_path / "out", tmp_path / "work", deadline_s=deadline_s, dry_run=dry_run, env=env)


def summary(run: Run) -> dict[str, Any]:
    return dict(json.loads((run.out / "summary.json").read_text()))


def fine(run: Run) -> Result:
    return run.python("-c", "print('fine')").result("said so", figure=3)


def raises(run: Run) -> Result:
    raise ValueError("planted")


def test_a_failing_step_stops_no_other(tmp_path: Path) -> None:
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


def test_an_optional_step_may_fail(tmp_path: Path) -> None:
    run = fresh(tmp_path)
    assert run.steps([Step("raises", 20, raises, optional=True), Step("fine", 20, fine)])
    assert summary(run)["passed"]


def test_the_deadline_kills_a_step_and_all_that_it_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also a process in another group, and one that ignores SIGTERM."""
    monkeypatch.setattr(runner, "GRACE_S", 0.3)
    monkeypatch.setattr(runner, "LEAST_S", 0.5)
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
    child = int(hangs["tail"].split()[1])
    stat = Path(f"/proc/{child}/stat")
    assert not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] in "ZX"


def test_a_step_has_a_limit_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "GRACE_S", 0.3)
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
        for child in children:
            os.kill(int(child), signal.SIGKILL)


def test_a_long_output_is_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "LOG_BYTES", 1000)
    run = fresh(tmp_path)
    child = run.python("-c", "print('a' * 5000 + 'end')")
    assert len(child.output) == 1000
    assert child.output.endswith("end\n")
    assert (run.out / "log.txt").stat().st_size < 1200


def test_sources_do_not_hide_the_installed_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), "", "/elsewhere"]))
    monkeypatch.setenv("PYTEST_ADDOPTS", "--nonsense")
    env = command.child_environment(tmp_path)
    assert env["PYTHONPATH"] == os.pathsep.join([str(ROOT / "bench"), "/elsewhere"])
    assert "PYTEST_ADDOPTS" not in env
    assert env["CUPY_CACHE_DIR"].startswith(str(tmp_path))


def test_a_read_only_tree_is_built_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "ROOT", tmp_path / "file" / "below")
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert command.work_folder().parent == tmp_path


def test_the_build_needs_no_network_and_touches_no_environment(tmp_path: Path) -> None:
    words = package.command(tmp_path / "site", tmp_path / "cmake")
    assert {"--no-index", "--no-deps", "--no-build-isolation", "--isolated"} <= set(words)
    assert words[words.index("--target") + 1] == str(tmp_path / "site")


def test_a_failed_build_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = fresh(tmp_path)
    run.facts["commit"] = "0" * 40
    monkeypatch.setattr(package, "command", lambda *_: [sys.executable, "-c", "exit(2)"])
    result = package.build(run, "always")
    assert result.status == "failed"
    assert "pip install" in result.reason
    monkeypatch.setattr(package, "command", lambda *_: [sys.executable, "-c", ""])
    found = {"path": "/elsewhere/vgg_cuda/__init__.py", "device": {"available": True}}
    monkeypatch.setattr(package, "probe", lambda _: found)
    assert "is imported instead" in package.build(run, "always").reason
    monkeypatch.setattr(package, "probe", lambda _: None)
    assert "cannot be imported" in package.build(run, "always").reason
    assert package.build(run, "never").status == "failed"


HAZARDS = "========= RACECHECK SUMMARY: {0} hazards displayed ({0} errors, 0 warnings)\n"
CLEAN = "========= ERROR SUMMARY: 0 errors\n"
RAN = "100 of 100 kernels ran\n"


@pytest.mark.parametrize(
    ("output", "code", "status"),
    [
        (RAN + CLEAN, 0, "ok"),
        (RAN + HAZARDS.format(0), 0, "ok"),
        (RAN + HAZARDS.format(2), 0, "failed"),
        (RAN + "========= ERROR SUMMARY: 3 errors\n", 99, "failed"),
        (CLEAN, 0, "failed"),  # nothing ran
        (RAN, 0, "failed"),  # nothing watched
        (RAN + CLEAN, 1, "failed"),
        ("========= Error: Device not supported\n", 1, "skipped"),
    ],
)
def test_what_a_sanitizer_says(output: str, code: int, status: str) -> None:
    assert steps.judged(output, Child(code, output, False).result()).status == status


def test_reports_of_tests(tmp_path: Path) -> None:
    """A row per test at once, so that a timeout leaves those that ended."""
    (tmp_path / "test_rows.py").write_text(
        "import os, pytest, warnings\n"
        "def test_good(): warnings.warn('of a package that is not the one that we test')\n"
        "def test_bad(): assert 1 == 2\n"
        "@pytest.fixture\n"
        "def broken(): raise OSError('planted')\n"
        "def test_fixture(broken): pass\n"
        "@pytest.mark.skip(reason='later')\n"
        "def test_skipped(): pass\n"
        "def test_last(): os._exit(7)\n"
    )
    (tmp_path / "test_import.py").write_text("import no_such_module\n")
    run = fresh(tmp_path)
    files = sorted(tmp_path.glob("test_*.py"))
    result = steps.pytest(run, "tests", [], files)
    assert result.status == "failed"
    counts = {key: result.data[key] for key in ("passed", "failed", "error", "skipped")}
    assert counts == {"passed": 1, "failed": 1, "error": 2, "skipped": 1}
    assert "1 == 2" in str(result.data["failures"])
    assert json.loads((run.out / "tests.json").read_text())["passed"] == 1
    (tmp_path / "cut.jsonl").write_text('{"test": "a"}\n{"test": ')
    assert pytest_report.read(tmp_path / "cut.jsonl") == [{"test": "a"}]
    assert pytest_report.read(tmp_path / "none.jsonl") == []


class FakeGraph:
    def __init__(self, log: list[str]) -> None:
        self.log = log

    def launch(self, stream: Any) -> None:
        self.log.append("launch")


class FakeStream:
    def __init__(self, log: list[str], broken: bool) -> None:
        self.log, self.broken = log, broken

    def __enter__(self) -> None: ...
    def __exit__(self, *_: object) -> None: ...
    def synchronize(self) -> None: ...
    def begin_capture(self) -> None:
        self.log.append("begin")

    def end_capture(self) -> FakeGraph:
        self.log.append("end")
        if self.broken:
            raise RuntimeError("cudaErrorStreamCaptureInvalidated")
        return FakeGraph(self.log)


@pytest.mark.parametrize("broken", [False, True])
def test_calls_are_captured_where_they_can_be(
    monkeypatch: pytest.MonkeyPatch, broken: bool
) -> None:
    log: list[str] = []
    event = SimpleNamespace(record=lambda: None, synchronize=lambda: None)
    cuda = SimpleNamespace(
        Event=lambda: event, Stream=lambda non_blocking: FakeStream(log, broken),
        get_current_stream=lambda: FakeStream(log, broken),
        get_elapsed_time=lambda start, stop: 8.0,
    )  # fmt: skip
    monkeypatch.setitem(sys.modules, "cupy", SimpleNamespace(cuda=cuda))
    clock = timing.CupyClock()
    repeated = clock.repeated([lambda: log.append("a"), lambda: log.append("b")])
    assert log[:6] == ["a", "b", "begin", "a", "b", "end"]
    assert repeated.graph is not broken
    assert ("Invalidated" in repeated.why) is broken
    log.clear()
    found = timing.side_by_side({"x": repeated}, 0)["x"]
    assert found.median_s == 8e-3 / 2
    assert found.samples == timing.LEAST
    assert set(log) == ({"a", "b"} if broken else {"launch"})


def test_programs_take_turns() -> None:
    log: list[str] = []
    clock = timing.HostClock()
    programs = {name: clock.repeated([lambda name=name: log.append(name)]) for name in "ab"}
    timing.side_by_side(programs, 0)
    assert log == ["a", "b"] * (1 + timing.LEAST)  # once to warm up
    sample = timing.sample([3.0, 1.0, 2.0, 10.0])
    assert (sample.median_s, sample.iqr_s, sample.samples) == (2.5, 8.0, 4)


def test_pictures_are_no_noise_and_no_zeros() -> None:
    from gpu.programs import pictures

    x = pictures(20, 32)
    assert x.shape == (20, 32, 32, 3)
    assert x.dtype == np.float32
    assert abs(x[:16].std() - 1) < 0.01
    neighbours = np.corrcoef(x[:, :, 1:].ravel(), x[:, :, :-1].ravel())[0, 1]
    assert neighbours > 0.5
    assert not (x[0] == x[16]).all()


def test_the_machine_is_described_without_git(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("VGG_CUDA_COMMIT", raising=False)
    monkeypatch.setattr(sys, "path", list(sys.path))
    found = machine.facts()
    assert found["commit"] == "unknown"
    assert found["dirty"] is None
    assert re.fullmatch(r"[0-9a-f]{64}", found["sources_sha256"])
    monkeypatch.setenv("VGG_CUDA_COMMIT", "abc123")
    assert machine.facts()["commit"] == "abc123"


@pytest.mark.skipif(machine.gpus()[1] is None, reason="there is a GPU: make gpu is what runs there")
@pytest.mark.skipif(why_missing("emulator") is not None, reason=str(why_missing("emulator")))
def test_dry_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "work_folder", lambda: tmp_path / "work")
    handlers = {number: signal.getsignal(number) for number in command.SIGNALS}
    chosen = ["tests", "verify", "bench", "ncu", "racecheck"]
    out = tmp_path / "out"
    out.mkdir()
    (out / "sanitizer.txt").write_text("of an earlier run")
    try:
        code = command.main(["--out", str(out), "--only", *chosen])
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    printed = capsys.readouterr().out
    assert code == 0, printed
    assert "no GPU" in printed
    files = sorted(path.name for path in out.iterdir())
    assert len(files) <= 8
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+", name) for name in files)
    assert set(files) <= set(command.FILES)
    assert set(files) >= {"summary.json", "bench.json", "tests.json", "verify.json", "log.txt"}
    assert "sanitizer.txt" not in files
    for name in files:
        if name.endswith(".json"):
            assert json.loads((out / name).read_text())["dry_run"] is True
    (verified,) = json.loads((out / "verify.json").read_text())["runs"]
    assert [verified[key] for key in ("weights", "dtype", "verdict")] == ["digits", "float16", "ok"]
    report = json.loads((out / "bench.json").read_text())
    kinds = {row["kind"] for row in report["rows"]}
    assert kinds == {"network", "layer", "ceiling"}
    assert all(row["right"] for row in report["rows"] if row["kind"] != "ceiling")


def test_a_bad_layer_fails_and_a_timeout_keeps_the_rest(tmp_path: Path) -> None:
    def report(verdict: str) -> Child:
        found = {"weights": "digits", "dtype": "tf32", "verdict": verdict, "sentence": "it is"}
        code = int(verdict != "ok")
        return Child(code, f"warning: this\n{json.dumps(found, indent=2)}\n", False)

    run = Run(tmp_path / "out", tmp_path / "work", deadline_s=60, dry_run=False)
    answers = [report("ok"), Child(-9, "", True)]
    run.python = lambda *_, **__: answers.pop(0)  # type: ignore[method-assign]
    result = steps.verify(run)
    assert (result.status, result.data["verified"], result.data["of"]) == ("ok", 1, 7)
    answers += [report("ok"), report("wrong"), Child(-9, "", True)]
    result = steps.verify(run)
    assert (result.status, result.reason) == ("failed", "digits tf32: it is")
    assert len(json.loads((run.out / "verify.json").read_text())["runs"]) == 2
    answers += [Child(2, "error: no such device", False)]
    assert steps.verify(run).status == "failed"
    answers += [Child(-9, "", True)]
    assert steps.verify(run).status == "timeout"


@pytest.mark.skipif(why_missing("emulator") is not None, reason=str(why_missing("emulator")))
def test_the_benchmark_of_a_gpu_with_no_gpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its CuPy is a fake one, whose launches go to the emulator; PyTorch computes on the CPU."""
    torch = pytest.importorskip("torch")
    from fake_cupy import fake_gpus
    from gpu import benchmark, programs

    made = programs.Torch.__init__

    def on_cpu(self: Any, weights: Any, device: str, dtype: str, double: bool = False) -> None:
        made(self, weights, "cpu", dtype, double)

    def seen(self: Any, x: Any) -> Any:
        tensor = torch.from_numpy(np.array(x.view(np.ndarray))).to(self.dtype)
        return tensor.permute(0, 3, 1, 2) if tensor.ndim == 4 else tensor

    monkeypatch.setattr(programs, "CupyClock", timing.HostClock)
    monkeypatch.setattr(programs.Torch, "__init__", on_cpu)
    monkeypatch.setattr(programs.Torch, "see", seen)
    monkeypatch.setattr(timing, "LEAST", 1)
    sizes = {"COPY_BYTES": 1 << 20, "MATMUL": 64, "ROTATED_BYTES": 1 << 15}
    for name, value in sizes.items():
        monkeypatch.setattr(benchmark, name, value)
    out = tmp_path / "bench.json"
    words = ["--out", str(out), "--network", "digits", "--size", "32", "--batch", "1", "2"]
    monkeypatch.setattr(sys, "argv", ["", *words, "--layer-batch", "1", "--each", "0"])
    with fake_gpus(monkeypatch, (9, 0)):
        benchmark.main()
    report = json.loads(out.read_text())
    assert "errors" not in report
    assert report["finished"]
    rows = {(row["kind"], row["name"], row.get("batch")): row for row in report["rows"]}
    assert {("network", "digits", 1), ("network", "digits", 2), ("layer", "fc8", 1)} <= set(rows)
    assert all(row["right"] for row in report["rows"] if row["kind"] != "ceiling")
    assert rows["layer", "conv2_1", 1]["plan"]["kernel"].startswith("conv3x3_f16")
    assert rows["layer", "conv2_1", 1]["copies"] > 1


def test_wrong_arguments_get_one_line(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="no step tests2: expected one of environment, build"):
        command.main(["--out", str(tmp_path), "--only", "tests2"])
