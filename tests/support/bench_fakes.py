"""Small networks, workers in this process, and programs that misbehave, for tests of benchmarks."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from vgg_cuda.bench.session import Session
from vgg_cuda.bench.workers import Message, WorkerDied
from vgg_cuda.configs import Config
from vgg_cuda.system.interruption import Interruption
from vgg_cuda.weights import he_weights, save

TINY = Config("tiny", (8, "M", 16, "M", 16, "M", 16, "M", 16, "M"), (16, 10), pool_grid=1)
FLAT = Config("flat", (8, 8, "M", 16, "M"), (), pool_grid=2, pooling="avg")

# Adapters as users write them; each behaves as its name says.
ADAPTERS = {
    "right": "pass",
    "wrong": "program.result = lambda: 2 * np.asarray(ours.result())",
    "infinite": "program.result = lambda: np.full((len(x), 10), np.inf)",
    "small": "program.result = lambda: np.asarray(ours.result())[:, :-1]",
    "hangs": "program.call = lambda i: time.sleep(600)",
    "hangs_early": "time.sleep(600)",
    "crashes": "program.call = lambda i: os.kill(os.getpid(), signal.SIGSEGV)",
    "raises": "raise RuntimeError('planted: out of memory')",
    "memory": "np.empty(1 << 60, np.uint8)",
    "killed": "program.call = lambda i: os.kill(os.getpid(), signal.SIGKILL)",
    "unable": "raise Absent('not for such networks')",
    "prints": "print('{\"absent\": \"noise\"}', flush=True); os.system('echo more noise')",
    "spawns": "program.call = lambda i: spawn()",
}
ADAPTER = """
import os, signal, subprocess, sys, time
import numpy as np
from vgg_cuda.bench import peers
from vgg_cuda.bench.peers import Absent, Program

def spawn():
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    open(os.environ["SPAWNED"], "w").write(str(child.pid))
    time.sleep(600)

class Peer:
    def __init__(self, job):
        self.ours, self.versions = peers.start("vgg_cuda", job), {{"planted": "1.0"}}
    def prepare(self, work):
        ours = program = self.ours.prepare(work)
        x = work.input(self.ours.job.seed)
        program = Program(ours.call, ours.result, ours.clock, "planted", ours.copies)
        {body}
        return program

def start(job):
    return Peer(job)
"""


def write_adapters(folder: Path) -> None:
    """Write a package ``planted`` with a module for each of ``ADAPTERS``; one is absent."""
    package = folder / "planted"
    package.mkdir()
    (package / "__init__.py").touch()
    for name, body in ADAPTERS.items():
        (package / f"{name}.py").write_text(ADAPTER.format(body=body))
    absent = "from vgg_cuda.bench.peers import Absent\ndef start(job): raise Absent('not here')\n"
    (package / "absent.py").write_text(absent)
    (package / "broken.py").write_text("import no_such_library\n")


def tiny_file(folder: Path, config: Config = TINY) -> str:
    """Save random weights of the network and return their path."""
    path = folder / f"{config.name}.safetensors"
    save(he_weights(config, 3), path)
    return str(path)


class Local:
    """A worker whose session is in this process; ``log`` lists its messages."""

    def __init__(self, name: str, log: list[tuple[str, str]]) -> None:
        self.name, self.alive, self._log = name, True, log
        self._session = Session()
        self._message: Message = {}

    def send(self, message: Message) -> None:
        self._message = message

    def receive(self, timeout: float) -> Message:
        self._log.append((self.name, self._message["do"]))
        try:
            return self._session.handle(self._message)
        except Exception as error:
            return {"error": f"{type(error).__name__}: {error}"}

    def close(self) -> None:
        self.alive = False


def locally(log: list[tuple[str, str]]) -> Callable[[str, Interruption], Any]:
    """Return a function that starts local workers, for ``Suite``."""
    return lambda name, stop: Local(name, log)


class Scripted:
    """A worker with scripted replies: sample times, or errors in ``lost``.

    ``said`` is the reply to "prepare", ``opened`` the reply to "open".
    """

    def __init__(
        self, name: str, times: Iterable[float], *, error: float | None = 1e-7,
        lost: dict[str, WorkerDied] | None = None, log: list[tuple[str, str]] | None = None,
        now: list[float] | None = None, per_slice: int = 1, said: Message | None = None,
        opened: Message | None = None,
    ) -> None:  # fmt: skip
        self.name, self.alive = name, True
        self._times, self._error, self._lost = iter(times), error, lost or {}
        self.log = [] if log is None else log
        self._now, self._per_slice, self._said = now, per_slice, said or {}
        self._opened = {"load_s": 0.1, "versions": {}} if opened is None else opened
        self._do = ""
        self.timeouts: list[tuple[str, float]] = []

    def send(self, message: Message) -> None:
        self._do = message["do"]

    def receive(self, timeout: float) -> Message:
        do = self._do
        self.log.append((self.name, do))
        self.timeouts.append((do, timeout))
        if do in self._lost:
            self.alive = False
            raise self._lost[do]
        if do == "check":
            return {"relative_error": self._error}
        if do == "sample":
            times = [next(self._times) for _ in range(self._per_slice)]
            if self._now is not None:
                self._now[0] += sum(times)
            return {"times": times, "enqueue": [], "parts": []}
        return {
            "open": self._opened, "prepare": self._said, "warm": {"call_s": 0.001}
        }.get(do, {})  # fmt: skip

    def close(self) -> None:
        self.alive = False
