"""Launches: arguments, endless loops, interrupts, and CPU threads that cannot start."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from typing import Any

import numpy as np
import pytest
from support.ptx_programs import Buffer, address, aligned, read, run

from vgg_cuda import _C

pytestmark = pytest.mark.emulator

WORDS = np.arange(32, dtype=np.uint32)
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


@pytest.mark.parametrize(
    ("launch", "message"),
    [
        ({"grid": 0}, "kernel example: launch with an empty grid"),
        ({"grid": (1, 0, 1)}, "kernel example: launch with an empty grid"),
        ({"block": 0}, "kernel example: launch with 0 threads in a block"),
        ({"block": 1025}, "kernel example: launch with 1025 threads in a block"),
        (
            {"extra_bytes": b"1234"},
            "kernel example: launch with 12 bytes of parameters, but it has 8",
        ),
        ({"smem": 64}, "launch with dynamic shared memory, which the kernel does not declare"),
        ({"smem": -1}, "kernel example: launch with negative dynamic shared memory"),
    ],
    ids=["grid", "grid-y", "no-threads", "threads", "parameters", "shared", "negative-shared"],
)
def test_launch_arguments_are_checked(launch: dict[str, Any], message: str) -> None:
    with pytest.raises(_C.EmulatorError, match=re.escape(message)):
        run("mov.u32 %r1, 0;", read("x", WORDS), **launch)


def test_overlapping_buffers_are_refused() -> None:
    memory = aligned(WORDS)
    with pytest.raises(_C.EmulatorError, match="buffers x and y overlap"):
        run("", Buffer("x", memory[:20]), Buffer("y", memory[10:], "write_once"))


def test_output_that_is_an_input_is_written_once() -> None:
    memory = aligned(WORDS)
    body = address("%rd1", "x", "%tid", 4) + "ld.global.u32 %r1, [%rd1]; add.u32 %r1, %r1, 1;\n"
    store = "st.global.u32 [%rd1], %r1;"
    in_place = (Buffer("x", memory), Buffer("y", memory, "write_once"))
    run(body + store, *in_place)
    np.testing.assert_array_equal(memory, WORDS + 1)
    with pytest.raises(_C.EmulatorError, match=r"writes x/y\[0:4\], which was already written"):
        run(body + store + store, *in_place)


def test_unknown_access_is_refused() -> None:
    expected = "access: expected one of any, constant, read, update, write_once"
    with pytest.raises(ValueError, match=expected):
        run("", Buffer("x", WORDS, "append"))
