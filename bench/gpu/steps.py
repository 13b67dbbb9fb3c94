"""The steps of a run, in order. Without a GPU, they do everything except launches there."""

from __future__ import annotations

import importlib.util
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

from . import machine, package
from .benchmarks import benchmark
from .pytest_report import read
from .runner import ROOT, Result, Run, Step, write_json
from .tools import profile, sanitizer
from .tuning import tune

WRAPPERS = ROOT / "tests" / "kernels" / "test_ptx_wrappers.py"
WORKERS = 8  # of pytest-xdist, if it is installed
# of each worker; 8 workers with a thread per core would compete for the cores
FEW_THREADS = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "2")
DRY_PARTS = "maps,fused_conv1_block,graph"  # of the self-test
PYTEST_ENDED = (0, 1, 5)  # passed, failed, nothing collected


def environment(run: Run) -> Result:
    """Record GPU, driver, versions and commit; without a GPU, make this a dry run.

    A GPU that CUDA cannot use fails the step.
    """
    child = run.python("-m", "gpu.machine", separate_stderr=True)
    for found in child.objects():
        run.facts |= found
    gpu, why = run.facts.get("gpu"), run.facts.get("no_gpu", "the driver did not answer")
    if gpu is None and not run.dry_run:
        trace = machine.driver_trace()
        if trace is not None:
            return Result("failed", f"found a GPU ({trace}), but {why}; see --dry-run")
        run.dry_run = True
    if missing := machine.missing_packages():
        names = " ".join(missing)
        return Result(
            "failed",
            f"missing packages: {names}; on a machine without a network, bring a folder made by "
            f"`pip install --target packages --no-deps {names}` for this Python, and set "
            "PYTHONPATH=packages",
        )
    said = str(gpu) if gpu else f"no GPU: {why}"
    result = child.result(f"{said}; a dry run" if run.dry_run else said)
    if result.status == "ok" and "commit" not in run.facts:
        return Result("failed", f"gpu.machine reported nothing: {child.last_line()}")
    return result


def selftest(run: Run) -> Result:
    """Test every kernel family in a separate process; families that fail are off in later steps.

    A hang costs the self-test's time limit for one kernel. A dry run tests a part on the emulator.
    """
    where = ["--device", "emulator", "--only", DRY_PARTS] if run.dry_run else ["--device", "cuda"]
    child = run.python("-m", "vgg_cuda", "selftest", *where, "--json", separate_stderr=True)
    report = next((each for each in child.objects() if "parts" in each), None)
    if child.timed_out:
        return child.result(child.last_line())
    if report is None:
        return Result("failed", f"exit status {child.code}: {child.last_line()}")
    write_json(run.out / "selftest.json", {"dry_run": run.dry_run, **report})
    verdicts = {part["name"]: part["verdict"] for part in report["parts"]}
    bad = "" if child.code == 0 or not report["ok"] else f"exit status {child.code}; "
    good = report["ok"] and not bad
    return Result("ok" if good else "failed", bad + report["sentence"], {"verdicts": verdicts})


def pytest(run: Run, name: str, arguments: list[str], files: list[Path]) -> Result:
    """Run tests and write ``name``.json with a row per test.

    Installed plugins are not loaded and warnings are not errors, because this environment is not
    the project's test environment.
    """
    report = run.work / f"{name}.jsonl"
    command = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "gpu.pytest_report"]
    command += ["--continue-on-collection-errors"]
    command += ["-c", str(ROOT / "pyproject.toml"), "--rootdir", str(ROOT), "-W", "default"]
    env = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "VGG_GPU_REPORT": str(report), **FEW_THREADS}
    several = importlib.util.find_spec("xdist") is not None and not run.dry_run
    child = None
    ways: list[list[str]] = [["-p", "xdist.plugin", "-n", str(WORKERS)]] if several else []
    for parallel in [*ways, []]:
        report.unlink(missing_ok=True)
        child = run.python(*command, *parallel, *arguments, *files, env=env)
        if child.code in PYTEST_ENDED or child.timed_out:
            break
    assert child
    rows = read(report)
    counts = Counter(row["outcome"] for row in rows)
    data: dict[str, Any] = {key: counts[key] for key in ("passed", "failed", "error", "skipped")}
    data["failures"] = [row for row in rows if row["outcome"] in ("failed", "error")][:20]
    write_json(run.out / f"{name}.json", {"dry_run": run.dry_run, **data, "tests": rows})
    said = ", ".join(f"{counts[key]} {key}" for key in counts)
    if child.timed_out:
        return child.result(said, **data)
    if child.code not in PYTEST_ENDED:
        return Result("failed", f"pytest: exit status {child.code}; {said}", data)
    if counts["failed"] or counts["error"]:
        return Result("failed", said, data)
    return Result("ok", said, data)


def ptx(run: Run) -> Result:
    """Test every PTX wrapper: the emulator against NumPy, and the GPU against both."""
    result = pytest(run, "ptx", [], [WRAPPERS])
    if result.status == "ok" and not run.dry_run and result.data["skipped"]:
        return Result("failed", f"not all ran: {result.reason}", result.data)
    return result


def gpu_tests(run: Run) -> Result:
    """Run the tests marked ``gpu``, or collect them in a dry run."""
    files = sorted((ROOT / "tests").rglob("test_*.py"))
    files = [f for f in files if "mark.gpu" in f.read_text(encoding="utf-8") and f != WRAPPERS]
    arguments = ["-m", "gpu", *["--collect-only"] * run.dry_run]
    result = pytest(run, "tests", arguments, files)
    if result.status == "ok" and not run.dry_run and not result.data["passed"]:
        return Result("failed", f"none ran: {result.reason}", result.data)
    if run.dry_run and result.status == "ok":
        names = ", ".join(f.name for f in files)
        return Result("ok", f"collected {names}", result.data)
    return result


def verify(run: Run) -> Result:
    """Verify every layer of several networks against float64.

    A network at 224x224 comes second, so that a hang at that size is found early.
    """
    digits, vgg16 = ["--weights", "digits"], ["--network", "vgg16", "--size", "224", "--uint8"]
    asked = [(digits, "float16"), (vgg16, "float16")]
    asked += [(digits, dtype) for dtype in ("tf32", "bfloat16", "float32")]
    asked += [(vgg16, dtype) for dtype in ("tf32", "bfloat16")]
    if run.dry_run:
        asked = asked[:1]
    device = "emulator" if run.dry_run else "cuda"
    found: list[dict[str, Any]] = []
    good: list[str] = []
    bad: list[str] = []
    late = ""
    for options, dtype in asked:
        name = f"{options[1]} {dtype}"
        words = ["--device", device, *options, "--dtype", dtype, "--json"]
        child = run.python("-m", "vgg_cuda", "verify", *words, separate_stderr=True)
        if child.timed_out:
            late = name
            break
        report = next((each for each in child.objects() if "verdict" in each), None)
        if report is None:
            bad.append(f"{name}: exit status {child.code}: {child.last_line()}")
        else:
            found.append(report)
            right = report["verdict"] == "ok" and child.code == 0
            (good if right else bad).append(name if right else f"{name}: {report.get('sentence')}")
        write_json(run.out / "verify.json", {"dry_run": run.dry_run, "bad": bad, "runs": found})
    data = {"verified": len(found), "of": len(asked), "bad": bad}
    said = f"{len(good)} of {len(asked)} networks are within their bounds"
    said += f": {', '.join(good)}" if late and good else ""
    said = f"killed at the limit in {late}; {said}" if late else said
    if bad:
        return Result("failed", "; ".join([*bad, said] if late else bad), data)
    return Result("timeout" if late else "ok", said, data)


def all_steps(build: str) -> list[Step]:
    """Return the steps, the most important first, with limits in seconds.

    A step that ends early leaves its time to later steps. The build takes about 300 s of CPU time.
    If it takes 110 s, all required steps fit into the 540 s of ``make gpu``; if it takes longer,
    the last steps get less. Optional steps run in the time that is left.
    """
    needs = ("build",)
    return [
        Step("environment", 30, environment),
        Step("build", 240, partial(package.build, mode=build)),
        Step("selftest", 75, selftest, needs),
        Step("ptx", 35, ptx, needs),
        Step("tests", 88, gpu_tests, needs),
        Step("verify", 40, verify, needs),
        Step("bench", 82, benchmark, needs),
        Step("memcheck", 40, partial(sanitizer, tool="memcheck"), needs),
        Step("racecheck", 40, partial(sanitizer, tool="racecheck"), needs),
        Step("tune", 60, tune, (*needs, "bench"), optional=True),
        Step("ncu", 60, profile, (*needs, "bench"), optional=True),
        Step("synccheck", 30, partial(sanitizer, tool="synccheck"), needs, optional=True),
        Step("initcheck", 30, partial(sanitizer, tool="initcheck"), needs, optional=True),
    ]
