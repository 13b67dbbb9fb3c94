"""Build, test and measure on this machine's GPU, unattended: ``make gpu [OUT=folder]``.

Writes the files of ``FILES`` into OUT (default build/gpu/<date>); ``summary.json`` has everything
essential. The run ends at the deadline with the results until then. The exit status is 1 if a step
failed or had no time, or if no step ran, and 2 for bad arguments. Without a GPU it is a dry run of
everything except launches on the GPU; it uses the current environment if that has the package with
the emulator, as ``.venv`` has after ``make test``. Without make and git, run
``VGG_CUDA_COMMIT=... PYTHONPATH=bench python3 -m gpu --out folder``.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import math
import os
import shutil
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any, NoReturn

from .runner import ROOT, Interrupted, Run, Step, say
from .steps import all_steps

DEADLINE_S = 540.0
FILES = (
    "summary.json", "selftest.json", "ptx.json", "tests.json", "verify.json", "bench.json",
    "tools.txt", "log.txt",
)  # fmt: skip
VERDICTS = "VGG_CUDA_CACHE"  # folder of what the self-test finds, for the steps after it
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def work_folder() -> Path:
    """Return the folder of builds, kept for the next run; a temporary one for a read-only tree."""
    folder = ROOT / "build" / "gpu" / "work"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except OSError:
        return Path(tempfile.mkdtemp(prefix="vgg-cuda-gpu-"))


def child_environment(work: Path) -> dict[str, str]:
    """Return the environment of child processes: this Python's tools, local caches, no network."""
    env = dict(os.environ)
    for name in ("PYTHONHOME", "PYTEST_ADDOPTS", "PYTHONWARNINGS"):
        env.pop(name, None)
    beside = os.path.dirname(sys.executable)
    env["PATH"] = os.pathsep.join([beside, env.get("PATH", os.defpath), "/usr/local/cuda/bin"])
    # the source folder has no compiled extension
    given = env.get("PYTHONPATH", "").split(os.pathsep)
    given = [path for path in given if path and Path(path).resolve() not in (ROOT, ROOT / "bench")]
    env["PYTHONPATH"] = os.pathsep.join([str(ROOT / "bench"), *given])
    cache = work / "cache"
    for name, folder in {
        "CUPY_CACHE_DIR": "cupy", "CUDA_CACHE_PATH": "cuda", "XDG_CACHE_HOME": "xdg",
        "MPLCONFIGDIR": "matplotlib", "TORCH_HOME": "torch", "TRITON_CACHE_DIR": "triton",
        VERDICTS: "vgg_cuda",
    }.items():  # fmt: skip
        env[name] = str(cache / folder)
    env |= {"HF_HUB_OFFLINE": "1", "PIP_NO_INDEX": "1", "PYTHONUNBUFFERED": "1"}
    env |= {"PYTHONDONTWRITEBYTECODE": "1", "PYTHONFAULTHANDLER": "1"}
    return env


def fail(text: str) -> NoReturn:
    """Report bad arguments and exit with 2."""
    with contextlib.suppress(OSError, ValueError):
        print(f"gpu: {text}", file=sys.stderr, flush=True)
    raise SystemExit(2)


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(prog="gpu", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, help="folder for the results")
    parser.add_argument(
        "--deadline", type=float, default=DEADLINE_S, help="seconds of the whole run"
    )
    parser.add_argument("--build", choices=("auto", "always", "never"), default="auto")
    parser.add_argument("--only", nargs="+", default=[], help="these steps and their needs")
    parser.add_argument("--dry-run", action="store_true", help="do not use a GPU")
    return parser.parse_args(arguments)


def interrupt(number: int, frame: Any) -> None:
    """End the current step by an exception; later signals are ignored."""
    for each in SIGNALS:
        signal.signal(each, signal.SIG_IGN)
    raise Interrupted(f"interrupted by {signal.Signals(number).name}")


def chosen(steps: list[Step], args: argparse.Namespace) -> list[Step]:
    """Return the steps of ``--only`` and the steps that they need."""
    if unknown := {*args.only} - {step.name for step in steps}:
        names = ", ".join(step.name for step in steps)
        fail(f"--only: expected some of {names}, got {', '.join(sorted(unknown))}")
    if not 0 < args.deadline < math.inf:
        fail(f"--deadline: expected a positive number of seconds, got {args.deadline:g}")
    wanted = {*args.only, "environment"} if args.only else {step.name for step in steps}
    for step in reversed(steps):  # a step comes after the steps that it needs
        wanted |= {*step.needs} if step.name in wanted else set()
    return [step for step in steps if step.name in wanted]


def cleared(out: Path) -> None:
    """Make the folder of results and remove the files of an earlier run."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out):
            for name in FILES:
                (out / name).unlink(missing_ok=True)
    except OSError as error:
        fail(f"--out: expected a writable folder, got {out}: {error.strerror or error}")


def main(arguments: list[str] | None = None, steps: list[Step] | None = None) -> int:
    """Run the steps and print a table."""
    args = parse(arguments)
    todo = chosen(all_steps(args.build) if steps is None else steps, args)
    now = datetime.datetime.now(datetime.timezone.utc)
    out = (args.out or ROOT / "build" / "gpu" / now.strftime("%Y-%m-%dT%H%M%S")).resolve()
    cleared(out)
    work = work_folder()
    run = Run(
        out, work, deadline_s=args.deadline, dry_run=args.dry_run, env=child_environment(work)
    )
    shutil.rmtree(run.env[VERDICTS], ignore_errors=True)  # of an earlier run
    run.facts["date"] = now.isoformat(timespec="seconds")
    for number in SIGNALS:
        signal.signal(number, interrupt)
    passed = run.steps(todo)
    where = run.facts.get("gpu") or "no GPU"
    say(f"\n{where}{', a dry run' if run.dry_run else ''}, commit {run.facts.get('commit')}")
    say(run.table())
    say(f"results in {out}")
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
