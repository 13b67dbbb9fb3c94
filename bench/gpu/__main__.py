"""``make gpu [OUT=folder]``: builds, tests and measures on this machine's GPU, unattended.

Writes at most eight files, ``FILES``, into OUT (default build/gpu/<date>); everything essential is
in ``summary.json``. Ends at the deadline with what it has. Exit status 1 where a step failed that
could run, had no time, or none ran; 2 for bad arguments. Without a GPU it is a dry run of
everything but the launches there, in the environment that it is run from, where that has the
package with the emulator (after ``make test``, ``.venv``). Without make and git:
``VGG_CUDA_COMMIT=... PYTHONPATH=bench python3 -m gpu --out folder``.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import math
import os
import signal
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

from .runner import ROOT, Interrupted, Run, Step, say
from .steps import all_steps

DEADLINE_S = 540.0
FILES = (
    "summary.json", "bench.json", "tests.json", "ptx.json", "verify.json", "sanitizer.txt",
    "ncu.txt", "log.txt",
)  # fmt: skip
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def work_folder() -> Path:
    """Where what is built is kept for the next run; a temporary one where the tree is read-only."""
    folder = ROOT / "build" / "gpu" / "work"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except OSError:
        return Path(tempfile.mkdtemp(prefix="vgg-cuda-gpu-"))


def child_environment(work: Path) -> dict[str, str]:
    """This one's with the tools beside this Python, caches in ``work``, and no network."""
    env = dict(os.environ)
    for name in ("PYTHONHOME", "PYTEST_ADDOPTS", "PYTHONWARNINGS"):
        env.pop(name, None)
    beside = os.path.dirname(sys.executable)
    env["PATH"] = os.pathsep.join([beside, env.get("PATH", os.defpath), "/usr/local/cuda/bin"])
    # without the folder of sources, which has no compiled extension
    given = env.get("PYTHONPATH", "").split(os.pathsep)
    given = [path for path in given if path and Path(path).resolve() not in (ROOT, ROOT / "bench")]
    env["PYTHONPATH"] = os.pathsep.join([str(ROOT / "bench"), *given])
    cache = work / "cache"
    for name, folder in {
        "CUPY_CACHE_DIR": "cupy", "CUDA_CACHE_PATH": "cuda", "XDG_CACHE_HOME": "xdg",
        "MPLCONFIGDIR": "matplotlib", "TORCH_HOME": "torch", "TRITON_CACHE_DIR": "triton",
    }.items():  # fmt: skip
        env[name] = str(cache / folder)
    env |= {"HF_HUB_OFFLINE": "1", "PIP_NO_INDEX": "1", "PYTHONUNBUFFERED": "1"}
    env |= {"PYTHONDONTWRITEBYTECODE": "1", "PYTHONFAULTHANDLER": "1"}
    return env


def fail(text: str) -> NoReturn:
    """For what the caller can mend."""
    with contextlib.suppress(OSError, ValueError):
        print(f"gpu: {text}", file=sys.stderr, flush=True)
    raise SystemExit(2)


def limit(text: str) -> tuple[str, float]:
    """``bench=200``, as ``--limit`` takes it."""
    name, _, seconds = text.partition("=")
    return name, float(seconds)


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(prog="gpu", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, help="folder for the results")
    parser.add_argument("--deadline", type=float, default=DEADLINE_S, help="seconds of everything")
    parser.add_argument("--build", choices=("auto", "always", "never"), default="auto")
    parser.add_argument("--only", nargs="+", default=[], help="these steps, and what they need")
    parser.add_argument(
        "--limit", nargs="+", default=[], type=limit, metavar="STEP=SECONDS", help="of a step"
    )
    parser.add_argument("--dry-run", action="store_true", help="as if there were no GPU")
    return parser.parse_args(arguments)


def interrupt(number: int, frame: Any) -> None:
    """What has begun is ended, and the summary written; once."""
    for each in SIGNALS:
        signal.signal(each, signal.SIG_IGN)
    raise Interrupted(f"interrupted by {signal.Signals(number).name}")


def chosen(steps: list[Step], args: argparse.Namespace) -> list[Step]:
    """Those of ``--only`` and all that they need, with the limits of ``--limit``."""
    limits = dict(args.limit)
    if unknown := {*args.only, *limits} - {step.name for step in steps}:
        names = ", ".join(step.name for step in steps)
        fail(f"no step {', '.join(sorted(unknown))}: expected one of {names}")
    for name, seconds in [("--deadline", args.deadline), *limits.items()]:
        if not 0 < seconds < math.inf:
            fail(f"{name}: expected a positive number of seconds, got {seconds:g}")
    wanted = {*args.only, "environment"} if args.only else {step.name for step in steps}
    for step in reversed(steps):  # what one needs is before it
        wanted |= {*step.needs} if step.name in wanted else set()
    return [
        replace(step, limit_s=limits.get(step.name, step.limit_s))
        for step in steps
        if step.name in wanted
    ]


def cleared(out: Path) -> None:
    """A folder that can be written to, without the files of an earlier run."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out):
            for name in FILES:
                (out / name).unlink(missing_ok=True)
    except OSError as error:
        fail(f"{out}: expected a folder for the results: {error.strerror or error}")


def main(arguments: list[str] | None = None, steps: list[Step] | None = None) -> int:
    """Runs the steps and prints a table."""
    args = parse(arguments)
    todo = chosen(all_steps(args.build) if steps is None else steps, args)
    now = datetime.datetime.now(datetime.timezone.utc)
    out = (args.out or ROOT / "build" / "gpu" / now.strftime("%Y-%m-%dT%H%M%S")).resolve()
    cleared(out)
    work = work_folder()
    run = Run(
        out, work, deadline_s=args.deadline, dry_run=args.dry_run, env=child_environment(work)
    )
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
