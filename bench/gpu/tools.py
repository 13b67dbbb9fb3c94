"""Steps that run compute-sanitizer and Nsight Compute."""

from __future__ import annotations

import os
import re
import shutil
import sys
from pathlib import Path

from .benchmarks import NETWORK, slowest_layer
from .runner import ROOT, Result, Run

NCU_LINES = 400
TEXTS = "tools.txt"  # in the folder of results


def sanitizer(run: Run, tool: str) -> Result:
    """Run all kernels under one tool of compute-sanitizer."""
    path = os.pathsep.join([run.env["PYTHONPATH"], str(ROOT / "tests")])
    script = ["-m", "gpu.sanitized", "--seconds", f"{max(run.left() - 15, 5):.0f}"]
    if run.dry_run:
        if tool != "memcheck":
            return Result("skipped", "no GPU")
        child = run.python(*script, "--device", "emulator", env={"PYTHONPATH": path})
        append(run.out / TEXTS, f"dry run, on the emulator\n{child.output}")
        return counted(child.output, child.result())
    program = find("compute-sanitizer")
    if program is None:
        return Result("skipped", "compute-sanitizer is not installed")
    child = run.child(
        [
            program, "--tool", tool, "--error-exitcode", "99", "--target-processes", "all",
            # CuPy handles failed API calls
            *(("--report-api-errors", "no") if tool == "memcheck" else ()),
            "--print-limit", "20", sys.executable, *script,
        ],
        env={"PYTHONPATH": path},
    )  # fmt: skip
    append(run.out / TEXTS, f"== {tool}\n{child.output}")
    return judged(child.output, child.result())


def judged(output: str, result: Result) -> Result:
    """Return the step's result from a tool's output and the ``result`` of its exit status."""
    if "Device not supported" in output:
        return Result("skipped", "compute-sanitizer does not support this device")
    summaries = re.findall(r"(?:ERROR|RACECHECK) SUMMARY: .*", output)
    found = re.findall(r"(\d+) (?:errors?|hazards?)", " ".join(summaries))
    ran = counted(output, result)
    reason = "; ".join([ran.reason, *dict.fromkeys(summaries)])
    data = {"summaries": summaries, **ran.data}
    if any(int(number) for number in found):
        return Result("failed", reason, data)
    if ran.status == "ok" and not summaries:
        return Result("failed", f"no summary; {reason}", data)
    return Result(ran.status, reason, data)


def counted(output: str, result: Result) -> Result:
    """Return the step's result from the output of ``gpu.sanitized`` and its exit ``result``.

    All kernels must run, except kernels that the device cannot run. A timeout is reported as such.
    """
    counts = re.findall(r"(\d+) of (\d+) kernels ran", output)
    ran, known = (int(number) for number in counts[-1]) if counts else (0, 0)
    said = [f"{ran} of {known} kernels ran"] if counts else ["no kernel ran"]
    unable = re.findall(r"(\d+) left out: .*", output)
    said += re.findall(r"\d+ left out: .*", output)
    late = known - ran - sum(int(number) for number in unable)
    data = {"ran": ran, "kernels": known, "left_out": known - ran}
    if result.status == "timeout" or (result.status == "ok" and "the time is up" in output):
        return Result("timeout", "; ".join([*said, f"{late} more had no time"]), data)
    if result.status != "ok":
        return Result(result.status, "; ".join([result.reason, *said]), data)
    if not ran or late:
        return Result("failed", "; ".join([*said, f"{late} more did not"] if late else said), data)
    return Result("ok", "; ".join(said), data)


def profile(run: Run) -> Result:
    """Profile the slowest layer's kernel with Nsight Compute."""
    slowest = slowest_layer(run.out / "bench.json")
    if slowest is None:
        return Result("skipped", "no layer was measured")
    if run.dry_run:
        return Result("skipped", f"no GPU; it would be {slowest['name']}")
    program = find("ncu")
    if program is None:
        return Result("skipped", "ncu is not installed")
    sections = ("SpeedOfLight", "MemoryWorkloadAnalysis", "Occupancy", "WarpStateStats")
    child = run.child(
        [
            program, "--clock-control", "none", "--target-processes", "all",
            "--profile-from-start", "off", "--kernel-name", slowest["kernels"][-1],
            "--launch-count", "1",
            *(word for section in sections for word in ("--section", section)),
            sys.executable, "-m", "gpu.one_layer", "--network", NETWORK,
            "--layer", slowest["name"], "--batch", str(slowest["batch"]),
            "--dtype", slowest["dtype"], "--device", "cuda",
        ]
    )  # fmt: skip
    lines = child.output.splitlines()[:NCU_LINES]
    append(run.out / TEXTS, "\n".join([f"== ncu {slowest['name']}", *lines]))
    failed = "==ERROR==" in child.output or "No kernels were profiled" in child.output
    if failed and not child.timed_out:
        return Result("failed", next((x for x in lines if "==ERROR==" in x), "no kernel matched"))
    return child.result(f"{slowest['name']}: {slowest['kernels'][-1]}")


def find(program: str) -> str | None:
    """Return the path of a tool of the CUDA toolkit, or None."""
    return shutil.which(program) or shutil.which(f"/usr/local/cuda/bin/{program}")


def append(path: Path, text: str) -> None:
    """Append a line to a text file."""
    with path.open("a", encoding="utf-8") as file:
        file.write(text + "\n")
