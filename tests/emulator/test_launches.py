"""Launches that never end, that are interrupted, and that cannot start their CPU threads."""

from __future__ import annotations

import signal
import subprocess
import sys
import time

import pytest

from vgg_cuda import _C

pytestmark = pytest.mark.emulator

ENDLESS = """
.version 9.0
.target sm_80
.address_size 64
.visible .entry endless()
{
again:
    bra again;
}
"""


def endless(**options: int) -> None:
    _C.Emulator(**options).launch(
        ENDLESS, "endless", grid=(1, 1, 1), block=(32, 1, 1), params=b"", buffers=[]
    )


def test_launch_with_endless_loop_is_an_error() -> None:
    with pytest.raises(_C.EmulatorError, match=r"kernel endless: .*an endless loop\?"):
        endless(instruction_limit=10_000)


def test_launch_ends_at_control_c() -> None:
    program = f"""
import signal, sys
sys.path[:0] = {sys.path!r}
from emulator.test_launches import endless
signal.signal(signal.SIGINT, signal.default_int_handler)  # background jobs ignore it
print("started", flush=True)
endless(instruction_limit=2**62)
"""
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == "started\n"
            time.sleep(0.5)  # into the launch
            process.send_signal(signal.SIGINT)
            start = time.monotonic()
            _, stderr = process.communicate(timeout=60)
        finally:
            process.kill()
    assert "KeyboardInterrupt" in stderr
    assert time.monotonic() - start < 10


def test_launch_without_room_for_threads() -> None:
    """The launch continues with the threads that could start, and the process survives."""
    program = f"""
import sys
sys.path[:0] = {sys.path!r}
import resource
import numpy as np
from vgg_cuda import ops
x = np.ones(2**20, np.float16)
ops.relu(x[:64], device="emulator")
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 100 * 2**20,) * 2)
try:
    with ops.emulator_options(workers=200):
        assert (ops.relu(x, device="emulator") == x).all()
except MemoryError:  # a thread that did start found no memory
    pass
print("alive")
"""
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (run.returncode, run.stdout) == (0, "alive\n"), run.stderr
