"""The steps of ``make gpu``: the build, what their commands print, and the dry run."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from gpu import __main__ as command
from gpu import benchmarks, machine, package, pytest_report, steps, tools
from gpu.runner import Child, Result, Run
from support.gpu_runs import fresh

from vgg_cuda import _C

ROOT = Path(__file__).parents[2]


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


def test_build_is_offline_and_isolated(tmp_path: Path) -> None:
    words = package.command(tmp_path / "site", tmp_path / "cmake")
    assert {"--no-index", "--no-deps", "--no-build-isolation", "--isolated"} <= set(words)
    assert words[words.index("--target") + 1] == str(tmp_path / "site")


def test_a_failed_build_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, real = fresh(tmp_path), package.probe
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
    for program, expected in (
        ("print('')", None),
        ("print('hello'); print('{\"wrappers\": 1}'); print('bye')", {"wrappers": 1}),
    ):
        monkeypatch.setattr(package, "PROBE", program)
        assert real(run) == expected


HAZARDS = "========= RACECHECK SUMMARY: {0} hazards displayed ({0} errors, 0 warnings)\n"
CLEAN = "========= ERROR SUMMARY: 0 errors\n"
RAN = "0 of 100 kernels ran; relu f16\n100 of 100 kernels ran\n"
SOME = "60 of 100 kernels ran"


@pytest.mark.parametrize(
    ("output", "code", "status", "reason"),
    [
        (RAN + CLEAN, 0, "ok", "100 of 100"),
        (RAN + HAZARDS.format(0), 0, "ok", "100 of 100"),
        (RAN + HAZARDS.format(2), 0, "failed", "2 hazards"),
        (RAN + "========= ERROR SUMMARY: 3 errors\n", 99, "failed", "3 errors"),
        (CLEAN, 0, "failed", "no kernel ran"),
        (RAN, 0, "failed", "no summary"),
        (RAN + CLEAN, 1, "failed", "exit status 1"),
        ("========= Error: Device not supported\n", 1, "skipped", "not support"),
        (f"{SOME}\n{CLEAN}", 0, "failed", "60 of 100 kernels ran; 40 more did not"),
        (f"{SOME}\n40 left out: no bfloat16\n{CLEAN}", 0, "ok", "40 left out: no bfloat16"),
        (f"{SOME}\n39 left out: no bfloat16\n{CLEAN}", 0, "failed", "1 more did not"),
        (f"{SOME}; the time is up\n{SOME}\n{CLEAN}", 0, "timeout", "40 more had no time"),
        (f"{SOME}; conv3x3 n1\n", None, "timeout", "60 of 100 kernels ran; 40 more had no time"),
        (f"{SOME}; conv3x3 n1\n{HAZARDS.format(1)}", None, "failed", "1 hazards"),
        ("", None, "timeout", "no kernel"),
    ],
)
def test_sanitizer_output_is_judged(
    output: str, code: int | None, status: str, reason: str
) -> None:
    child = Child(-9 if code is None else code, output, code is None)
    result = tools.judged(output, child.result())
    assert (result.status, reason in result.reason) == (status, True), result.reason


@pytest.mark.emulator
def test_every_kernel_runs_under_a_sanitizer(monkeypatch: pytest.MonkeyPatch) -> None:
    """All kernels run, tf32 included; without bfloat16 in CuPy, its kernels are left out."""
    from gpu import sanitized
    from support.kernel_cases import all_cases

    def runnable() -> dict[str, Any]:
        return sanitized.reduced([c for c in all_cases() if sanitized.runnable(c, "emulator")])

    assert runnable().keys() == set(_C.kernels())
    assert sanitized.unable(runnable(), "emulator") == ""
    without = SimpleNamespace(precisions=("float16", "float32", "tf32"))
    monkeypatch.setattr(sanitized, "get_backend", lambda _: without)
    own = {kernel for kernel in _C.kernels() if "_bf16" in kernel}
    assert runnable().keys() == set(_C.kernels()) - own
    assert sanitized.unable(runnable(), "cuda").startswith(f"{len(own)} left out")


def test_reports_of_tests(tmp_path: Path) -> None:
    """Rows are written after each test, so that a timeout does not lose finished tests."""
    (tmp_path / "test_rows.py").write_text(
        "import os, pytest, warnings\n"
        "def test_good():\n"
        "    warnings.warn('of a package that is not the one that we test')\n"
        "    assert os.environ['OPENBLAS_NUM_THREADS'] == '2'\n"
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


def test_nvidia_smi_is_queried_once_with_a_timeout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path / "nvidia-smi"
    script.write_text('#!/bin/sh\necho "$0" >> "$0.log"\necho "GPU X, 1.2"\nsleep ${WAIT:-0}\n')
    script.chmod(0o755)
    monkeypatch.setenv("PATH", os.pathsep.join([str(tmp_path), os.environ["PATH"]]))
    monkeypatch.setattr(sys, "path", list(sys.path))
    found = machine.facts()
    assert found["driver"] == "1.2"
    assert len((tmp_path / "nvidia-smi.log").read_text().splitlines()) == 1
    assert next(s.limit_s for s in steps.all_steps("auto")) > machine.TIMEOUT_S * 3
    monkeypatch.setenv("WAIT", "20")
    monkeypatch.setattr(machine, "TIMEOUT_S", 0.2)
    begun = time.monotonic()
    assert machine.nvidia_smi() == {}
    assert time.monotonic() - begun < 10


def says(*objects: dict[str, Any], code: int = 0, timed_out: bool = False) -> Any:
    """A run's ``python`` whose children print those."""
    printed = "".join(f"{json.dumps(each)}\n" for each in objects)
    return lambda *_, **__: Child(code, f"hello\n{printed}bye", timed_out, "the end")


def test_unusable_gpu_is_no_dry_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def environment(answer: Any, trace: str | None, dry_run: bool = False) -> tuple[Result, Run]:
        run = fresh(tmp_path, dry_run=dry_run)
        monkeypatch.setattr(run, "python", answer)
        monkeypatch.setattr(machine, "driver_trace", lambda: trace)
        return steps.environment(run), run

    none = {"gpu": None, "gpus": [], "no_gpu": "cuInit: CUDA error 999"}
    some, facts = {"gpu": "X", "gpus": [], "no_gpu": None}, {"commit": "abc"}
    result, run = environment(says(none, facts), "/proc/driver/nvidia/version")
    assert (result.status, run.dry_run) == ("failed", False)
    assert "found a GPU (/proc/driver/nvidia/version), but cuInit: CUDA error 999" in result.reason
    result, run = environment(says(none, facts), None)
    assert (result.status, run.dry_run) == ("ok", True)
    result, run = environment(says(none, facts), "/bin/nvidia-smi", dry_run=True)
    assert (result.status, run.dry_run) == ("ok", True)
    result, run = environment(says(some, facts), "/bin/nvidia-smi")
    assert (result.status, run.dry_run, result.reason) == ("ok", False, "X")
    # the rest hung: the GPU is known all the same
    result, run = environment(says(some, timed_out=True), "/bin/nvidia-smi")
    assert (result.status, run.dry_run, run.facts["gpu"]) == ("timeout", False, "X")
    result, run = environment(says(), None)
    assert (result.status, result.reason) == ("failed", "gpu.machine reported nothing: the end")


def test_driver_traces_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(machine, "DRIVER", tmp_path / "version")
    assert machine.driver_trace() is None
    (tmp_path / "version").write_text("NVRM version")
    assert machine.driver_trace() == str(tmp_path / "version")
    (tmp_path / "nvidia-smi").touch(mode=0o755)
    assert machine.driver_trace() == str(tmp_path / "nvidia-smi")


def test_limits_fit_the_deadline() -> None:
    """With 110 s for the build; of what fails each step has those that it cannot do without."""
    given = steps.all_steps("auto")
    assert sum(s.limit_s for s in given if not s.optional and s.name != "build") + 110 <= 540
    assert [s.optional for s in given] == sorted(s.optional for s in given)
    assert {s.name: s.needs for s in given if s.needs != ("build",)} == {
        "environment": (), "build": (), "tune": ("build", "bench"), "ncu": ("build", "bench"),
    }  # fmt: skip


@pytest.mark.skipif(
    machine.gpus()[1] is None or machine.driver_trace() is not None,
    reason="there is a GPU: make gpu is what runs there",
)
@pytest.mark.emulator
def test_dry_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "work_folder", lambda: tmp_path / "work")
    monkeypatch.setattr(steps, "DRY_PARTS", "fused_conv1_block")
    handlers = {number: signal.getsignal(number) for number in command.SIGNALS}
    chosen = ["selftest", "tests", "verify", "ncu", "racecheck"]  # and bench, which ncu needs
    out = tmp_path / "out"
    out.mkdir()
    (out / "tools.txt").write_text("of an earlier run")
    try:
        code = command.main(["--out", str(out), "--only", *chosen])
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    printed = capsys.readouterr().out
    assert code == 0, printed
    assert "no GPU" in printed
    files = sorted(path.name for path in out.iterdir())
    assert len(command.FILES) <= 8
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+", name) for name in files)
    assert set(files) <= set(command.FILES)
    written = {"summary", "selftest", "bench", "tests", "verify"}
    assert {name.removesuffix(".json") for name in files if name.endswith(".json")} == written
    assert "tools.txt" not in files
    for name in files:
        if name.endswith(".json"):
            assert json.loads((out / name).read_text())["dry_run"] is True
    tested = json.loads((out / "selftest.json").read_text())["parts"]
    assert {part["name"]: part["verdict"] for part in tested} == {"fused_conv1_block": "ok"}
    (verified,) = json.loads((out / "verify.json").read_text())["runs"]
    assert [verified[key] for key in ("weights", "dtype", "verdict")] == ["digits", "float16", "ok"]
    runs = json.loads((out / "bench.json").read_text())["runs"]
    assert [each["report"]["kind"] for each in runs] == ["model", "kernel"]
    for each in runs:
        assert set(each["report"]["ceilings"]) == {"copy", "matmul"}
        assert {row["status"] for row in each["report"]["results"]} == {"ok"}


@pytest.mark.parametrize(
    ("printed", "code", "status", "reason"),
    [
        ([{"parts": [], "ok": True, "sentence": "all right"}], 0, "ok", "all right"),
        ([{"parts": [], "ok": False, "sentence": "halo is off"}], 1, "failed", "halo is off"),
        ([{"parts": [], "ok": True, "sentence": "right"}], 1, "failed", "exit status 1; right"),
        ([], 2, "failed", "exit status 2: the end"),
        ([], None, "timeout", "killed at its limit; the end"),
    ],
)
def test_selftest_step_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, printed: list[dict[str, Any]],
    code: int | None, status: str, reason: str,
) -> None:  # fmt: skip
    run = fresh(tmp_path, dry_run=False)
    monkeypatch.setattr(run, "python", says(*printed, code=code or 0, timed_out=code is None))
    result = steps.selftest(run)
    assert (result.status, result.reason) == (status, reason)
    assert (run.out / "selftest.json").exists() == bool(printed)


def verified(*verdicts: str | None) -> list[Child]:
    """Return a fake of ``vgg-cuda verify`` that prints verdicts with warnings; None hangs."""
    answers = []
    for verdict in verdicts:
        if verdict is None:
            answers.append(Child(-9, "", True))
        elif verdict in ("ok", "wrong"):
            report = {"weights": "w", "dtype": "d", "verdict": verdict, "sentence": "it is"}
            text = f"{{warning}}\n{json.dumps(report, indent=2)}\nand {{this\n"
            answers.append(Child(int(verdict != "ok"), text, False, "warning: {that}"))
        else:
            answers.append(Child(1, "", False, f"Traceback:\n{verdict}\n"))
    return answers


@pytest.mark.parametrize(
    ("verdicts", "status", "reason", "verified_n"),
    [
        (["ok"] * 7, "ok", "7 of 7 networks are within their bounds", 7),
        (
            ["ok", None], "timeout", "killed at the limit in vgg16 float16; 1 of 7 networks are "
            "within their bounds: digits float16", 1,
        ),
        ([None], "timeout", "killed at the limit in digits float16; 0 of 7", 0),
        (["ok", "ok", "wrong", None], "failed", "digits tf32: it is; killed at the limit in", 3),
        (
            ["ok", "KeyError: 3", *["ok"] * 5], "failed",
            "vgg16 float16: exit status 1: KeyError: 3", 6,
        ),
    ],
)  # fmt: skip
def test_verify_step_result(
    tmp_path: Path, verdicts: list[str | None], status: str, reason: str, verified_n: int
) -> None:
    run = fresh(tmp_path, dry_run=False)
    answers, asked = verified(*verdicts), []

    def python(*words: str, **options: Any) -> Child:
        assert options["separate_stderr"]
        asked.append(words)
        return answers.pop(0)

    run.python = python  # type: ignore[assignment]
    result = steps.verify(run)
    assert (result.status, result.data["verified"]) == (status, verified_n)
    assert result.reason.startswith(reason)
    assert not answers
    if verified_n:
        assert len(json.loads((run.out / "verify.json").read_text())["runs"]) == verified_n
    if len(asked) > 1:
        assert {"vgg16", "224", "float16"} <= set(asked[1])


def measured(kind: str, *rows: dict[str, Any]) -> dict[str, Any]:
    """A report of ``vgg-cuda bench``."""
    usual = {"name": "vgg16", "peer": "vgg_cuda", "batch": 64, "dtype": "float16", "status": "ok"}
    return {"kind": kind, "results": [usual | row for row in rows]}


OURS = measured("model", {"median_s": 0.002, "ratio": 1.0})
BOTH = measured("model", {"median_s": 0.002}, {"peer": "torch", "median_s": 0.003, "ratio": 1.5})
WRONG = measured("kernel", {"name": "fc6", "status": "wrong", "reason": "error"})
BROKEN = measured("model", {"median_s": 0.002}, {
    "peer": "torch", "status": "failed", "reason": "out of memory",
})  # fmt: skip
LATE = measured("model", {"status": "n/a", "reason": "no time: the budget is 9 s"})
NO_ARRAYS = Child(2, "", False, "error: dtype: expected float16 on cuda:0, got 'bfloat16'")
FAILED = {"asked": ["model", "vgg16"], "report": None, "why": "exit status 2: error: no"}


@pytest.mark.parametrize(
    ("reports", "timed_out", "status", "reason"),
    [
        ([OURS], False, "ok", "float16 N=64: 2.000 ms"),
        ([BOTH], False, "ok", "float16 N=64: 2.000 ms, 1.50x PyTorch"),
        ([OURS, WRONG], False, "failed", "wrong: float16 kernel fc6 N=64 of vgg_cuda"),
        ([BROKEN], False, "failed", "float16 model vgg16 N=64 of torch: out of memory"),
        ([OURS], True, "timeout", "killed at its limit; float16 N=64: 2.000 ms"),
        ([WRONG], True, "failed", "wrong: float16 kernel fc6"),
        ([], False, "failed", "measured nothing: model vgg16: exit status 2: error: no"),
        ([OURS, None], False, "failed", "model vgg16: exit status 2: error: no"),
        ([OURS, LATE], False, "ok", "float16 N=64: 2.000 ms"),
        ([OURS, "left out"], False, "ok", "float16 N=64: 2.000 ms"),
    ],
)
def test_benchmark_step_result(
    reports: list[Any], timed_out: bool, status: str, reason: str
) -> None:
    left_out = {**FAILED, "why": benchmarks.why(NO_ARRAYS)}
    kinds: dict[Any, Any] = {None: FAILED, "left out": left_out}
    runs = [
        kinds[report] if report is None or isinstance(report, str)
        else {"asked": [], "report": report, "why": ""}
        for report in reports
    ]  # fmt: skip
    child = Child(-9 if timed_out else 0, "", timed_out)
    result = benchmarks.judged(runs or [FAILED], child)
    assert (result.status, result.reason[: len(reason)]) == (status, reason)
    assert result.data["no_time"] == (LATE in reports)


def test_runs_share_the_time(tmp_path: Path) -> None:
    """Runs without time are listed; a killed run ends the step, and its report stays."""
    run = fresh(tmp_path, dry_run=False)
    asked: list[tuple[Any, ...]] = []
    left = [100.0, 60.0, 25.0, 12.0]

    def python(*words: Any, **_: Any) -> Child:
        asked.append(words)
        Path(words[-1]).write_text(json.dumps(BOTH if len(asked) == 1 else OURS))
        return Child(0, "", False)

    run.python = python  # type: ignore[assignment]
    run.left = lambda: left[min(len(asked), 3)]  # type: ignore[method-assign]
    result = benchmarks.benchmark(run)
    assert (result.status, result.data["no_time"]) == ("ok", 1)
    budgets = [float(words[words.index("--budget") + 1]) for words in asked]
    assert budgets == [40, 35, 8]
    assert all({"--device", "cuda", "--peers", "torch"} <= set(words) for words in asked)
    assert len(json.loads((run.out / "bench.json").read_text())["runs"]) == 3
    asked.clear()

    def killed(*words: Any, **_: Any) -> Child:
        python(*words)
        return Child(-9, "", True)

    run.python = killed  # type: ignore[assignment]
    assert benchmarks.benchmark(run).status == "timeout"
    assert len(asked) == 1


def test_the_slowest_layer_is_profiled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, asked = fresh(tmp_path, dry_run=False), []
    layers = measured(
        "kernel", {"name": "conv1_2", "median_s": 0.001, "kernels": ["one"]},
        {"name": "fc6", "median_s": 0.002, "kernels": ["slow", "reduce"]},
        {"name": "fc6", "median_s": 0.009, "peer": "torch"},
    )  # fmt: skip
    assert tools.profile(run).reason == "no layer was measured"
    runs = [{"report": OURS}, {"report": layers}, {"report": None}]
    (run.out / "bench.json").write_text(json.dumps({"runs": runs}))
    monkeypatch.setattr(tools, "find", lambda name: f"/bin/{name}")

    def child(words: list[str]) -> Child:
        asked.append(words)
        return Child(0, "a profile", False)

    run.child = child  # type: ignore[assignment]
    assert tools.profile(run).reason == "fc6: reduce"
    (words,) = asked
    assert words[words.index("--kernel-name") + 1] == "reduce"
    assert words[words.index("--layer") + 1] == "fc6"
