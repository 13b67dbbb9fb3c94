"""The steps of a run, in order. With no GPU each does all but the launches there."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import sys
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

from . import package
from .pytest_report import read
from .runner import ROOT, Result, Run, Step, write_json

WRAPPERS = ROOT / "tests" / "test_ptx_wrappers.py"
WORKERS = 8  # of pytest-xdist, where there is one
PYTEST_ENDED = (0, 1, 5)  # passed, failed, nothing collected
NCU_LINES = 400


def environment(run: Run) -> Result:
    """GPU, driver, versions, commit; decides whether this is a dry run."""
    child = run.python("-m", "gpu.machine")
    if child.code or child.timed_out:
        return child.result()
    run.facts |= json.loads(child.output.splitlines()[-1])
    run.dry_run = run.dry_run or run.facts["gpu"] is None
    return Result("ok", run.facts["gpu"] or f"no GPU, a dry run: {run.facts['no_gpu']}")


def pytest(run: Run, name: str, arguments: list[str], files: list[Path]) -> Result:
    """Runs tests and writes ``name``.json, a row per test, however they end.

    Plugins that happen to be installed are left out, and warnings are not errors: this environment
    is not the one that the project chose.
    """
    report = run.work / f"{name}.jsonl"
    command = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "gpu.pytest_report"]
    command += ["--continue-on-collection-errors"]
    command += ["-c", str(ROOT / "pyproject.toml"), "--rootdir", str(ROOT), "-W", "default"]
    env = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "VGG_GPU_REPORT": str(report)}
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
    """Every PTX wrapper: emulator against NumPy, GPU against both."""
    result = pytest(run, "ptx", [], [WRAPPERS])
    if result.status == "ok" and not run.dry_run and result.data["skipped"]:
        return Result("failed", f"not all ran: {result.reason}", result.data)
    return result


def gpu_tests(run: Run) -> Result:
    """Those with the marker; where there is no GPU they are collected."""
    files = sorted((ROOT / "tests").glob("test_*.py"))
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
    """Every layer that a forward launches beside float64, the most telling networks first."""
    full = ["--network", "vgg16", "--size", "224"]
    asked = [["--dtype", dtype] for dtype in ("float16", "tf32", "bfloat16", "float32")]
    asked += [[*full, "--dtype", dtype, "--uint8"] for dtype in ("float16", "tf32", "bfloat16")]
    if run.dry_run:
        asked = asked[:1]
    path, found = run.out / "verify.json", []
    device = "emulator" if run.dry_run else "cuda"
    for options in asked:
        child = run.python("-m", "vgg_cuda", "verify", "--device", device, *options, "--json")
        if child.timed_out:
            break
        if child.code not in (0, 1):  # 1: a layer is bad, which the report tells
            return child.result(f"verify {' '.join(options)}")
        start, end = child.output.find("{"), child.output.rfind("}")
        found.append(json.loads(child.output[start : end + 1]))
        write_json(path, {"dry_run": run.dry_run, "runs": found})
    bad = [f"{r['weights']} {r['dtype']}: {r['sentence']}" for r in found if r["verdict"] != "ok"]
    data = {"verified": len(found), "of": len(asked), "bad": bad}
    if bad:
        return Result("failed", "; ".join(bad), data)
    said = f"{len(found)} of {len(asked)} networks are within their bounds"
    return Result("ok" if found else "timeout", said, data)


def benchmark(run: Run) -> Result:
    """Networks and layers beside PyTorch; what was measured before a timeout stays."""
    path = run.out / "bench.json"
    options = ["--out", str(path), "--seconds", f"{max(run.left() - 20, 5):.0f}"]
    if run.dry_run:
        options += ["--device", "cpu", "--dtype", "float32", "--network", "digits", "--size", "32"]
        options += ["--batch", "1", "2", "--layer-batch", "1", "--each", "0.01", "--seconds", "20"]
    child = run.python("-m", "gpu.benchmark", *options)
    if not path.exists():
        return child.result("measured nothing")
    report = json.loads(path.read_text())
    write_json(path, {"dry_run": run.dry_run} | report)
    rows = report["rows"]
    wrong = [f"{row['kind']} {row['name']}" for row in rows if row.get("right") is False]
    networks = [
        f"N={row['batch']}: {row['vgg_cuda']['median_s'] * 1e3:.3f} ms, {row['ratio']:.2f}x PyTorch"
        for row in rows
        if row["kind"] == "network"
    ]
    data = {"rows": len(rows), "wrong": wrong, "errors": report.get("errors", [])}
    result = child.result("; ".join(networks), **data)
    if result.status == "ok" and (wrong or data["errors"]):
        first = f"wrong: {', '.join(wrong)}" if wrong else data["errors"][0]
        return Result("failed", first, data)
    return result


def sanitizer(run: Run, tool: str) -> Result:
    """All kernels under one tool of compute-sanitizer."""
    path = os.pathsep.join([run.env["PYTHONPATH"], str(ROOT / "tests")])
    script = ["-m", "gpu.sanitized", "--seconds", f"{max(run.left() - 15, 5):.0f}"]
    if run.dry_run:
        if tool != "memcheck":
            return Result("skipped", "no GPU")
        child = run.python(*script, "--device", "emulator", env={"PYTHONPATH": path})
        append(run.out / "sanitizer.txt", f"dry run, on the emulator\n{child.output}")
        return child.result(last_line(child.output))
    program = find("compute-sanitizer")
    if program is None:
        return Result("skipped", "there is no compute-sanitizer")
    child = run.child(
        [
            program, "--tool", tool, "--error-exitcode", "99", "--target-processes", "all",
            # CuPy asks for what may fail, and copes
            *(("--report-api-errors", "no") if tool == "memcheck" else ()),
            "--print-limit", "20", sys.executable, *script,
        ],
        env={"PYTHONPATH": path},
    )  # fmt: skip
    append(run.out / "sanitizer.txt", f"== {tool}\n{child.output}")
    return judged(child.output, child.result())


def judged(output: str, result: Result) -> Result:
    """What a tool's output says; ``result`` is what its exit status says."""
    if "Device not supported" in output:
        return Result("skipped", "compute-sanitizer does not support this device")
    summaries = re.findall(r"(?:ERROR|RACECHECK) SUMMARY: .*", output)
    ran = re.findall(r"\d+ of \d+ kernels ran", output)
    found = re.findall(r"(\d+) (?:errors?|hazards?)", " ".join(summaries))
    data = {"summaries": summaries, "ran": ran}
    reason = "; ".join([*ran, *dict.fromkeys(summaries)])
    if any(int(number) for number in found):
        return Result("failed", reason, data)
    if result.status != "ok":
        return Result(result.status, f"{result.reason}; {reason}".rstrip("; "), data)
    if not summaries or not ran:
        return Result("failed", f"no summary; {reason}".rstrip("; "), data)
    return Result("ok", reason, data)


def profile(run: Run) -> Result:
    """Nsight Compute on the slowest layer's kernel."""
    rows = []
    if (run.out / "bench.json").exists():
        rows = json.loads((run.out / "bench.json").read_text())["rows"]
    layers = [row for row in rows if row["kind"] == "layer"]
    if not layers:
        return Result("skipped", "no layer was measured")
    slowest = max(layers, key=lambda row: row["vgg_cuda"]["median_s"])
    if run.dry_run:
        return Result("skipped", f"no GPU; it would be {slowest['name']}")
    program = find("ncu")
    if program is None:
        return Result("skipped", "there is no ncu")
    sections = ("SpeedOfLight", "MemoryWorkloadAnalysis", "Occupancy", "WarpStateStats")
    child = run.child(
        [
            program, "--clock-control", "none", "--target-processes", "all",
            "--profile-from-start", "off", "--kernel-name", slowest["plan"]["kernel"],
            "--launch-count", "1",
            *(word for section in sections for word in ("--section", section)),
            sys.executable, "-m", "gpu.benchmark", "--profile", slowest["name"],
        ]
    )  # fmt: skip
    lines = child.output.splitlines()[:NCU_LINES]
    (run.out / "ncu.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    failed = "==ERROR==" in child.output or "No kernels were profiled" in child.output
    if failed and not child.timed_out:
        return Result("failed", next((x for x in lines if "==ERROR==" in x), "no kernel matched"))
    return child.result(f"{slowest['name']}: {slowest['plan']['kernel']}")


def find(program: str) -> str | None:
    """Where a tool of the CUDA toolkit is."""
    return shutil.which(program) or shutil.which(f"/usr/local/cuda/bin/{program}")


def append(path: Path, text: str) -> None:
    """More of a text file."""
    with path.open("a", encoding="utf-8") as file:
        file.write(text + "\n")


def last_line(text: str) -> str:
    """The last one that says something."""
    lines = text.strip().splitlines()
    return lines[-1] if lines else ""


def all_steps(build: str) -> list[Step]:
    """Limits in seconds; together they are hardly more than the deadline."""
    needs = ("environment", "build")
    return [
        Step("environment", 30, environment),
        Step("build", 300, partial(package.build, mode=build), ("environment",)),
        Step("ptx", 60, ptx, needs),
        Step("tests", 120, gpu_tests, needs),
        Step("verify", 60, verify, needs),
        Step("bench", 120, benchmark, needs),
        Step("memcheck", 60, partial(sanitizer, tool="memcheck"), needs),
        Step("racecheck", 60, partial(sanitizer, tool="racecheck"), needs),
        Step("ncu", 60, profile, needs, optional=True),
        Step("synccheck", 30, partial(sanitizer, tool="synccheck"), needs, optional=True),
        Step("initcheck", 30, partial(sanitizer, tool="initcheck"), needs, optional=True),
    ]
