"""Launches that begin before those before them have ended: who waits for them, and who does not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from support.ptx_pairs import (
    Pair,
    assert_fails_in_every_order,
    assert_runs_in_every_order,
)
from support.ptx_programs import (
    Buffer,
    address,
    constant,
    every_order,
    read,
    result,
    run,
    scratch,
)

pytestmark = pytest.mark.emulator

THREADS = 64  # of a block; two blocks
X = np.arange(2 * THREADS, dtype=np.uint32)
WAIT = "griddepcontrol.wait;"
EARLY: dict[str, Any] = {"grid": 2, "block": THREADS, "early": True}
BEFORE = "before griddepcontrol.wait, while launches before this one may still run"

# out = x + w, w read before the wait by all, the wait by the first warp alone.
SUM = (
    ".shared .align 16 .b8 smem[256]; .shared .align 8 .b8 bar[8];\n"
    + address("%rd1", "x", "%thread", 4)
    + address("%rd2", "w", "%thread", 4)
    + address("%rd3", "out", "%thread", 4)
    + """
ld.global.u32 %r2, [%rd2];
EARLIER
griddepcontrol.launch_dependents;
setp.ne.u32 %p1, %warp, 0; @%p1 bra MEET;
WAITS
MEET: bar.sync 0;
LATER
ld.global.u32 %r1, [%rd1];
add.u32 %r1, %r1, %r2;
st.global.u32 [%rd3], %r1;
"""
)
READ = "ld.global.u32 %r1, [%rd1]; // HERE"
WRITE = "st.global.u32 [%rd3], %r2; // HERE"
BULK = """mov.u32 %r3, smem; mov.u32 %r4, bar; setp.ne.u32 %p2, %tid, 0; @%p2 bra COPIED;
mbarrier.init.shared::cta.b64 [%r4], 1; fence.mbarrier_init.release.cluster;
mbarrier.arrive.expect_tx.shared::cta.b64 _, [%r4], 256;
cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%r3], [FROM], 256, [%r4]; // HERE
COPY: mbarrier.try_wait.parity.shared::cta.b64 %p3, [%r4], 0; @!%p3 bra COPY;
COPIED:
"""
ATOMIC = "atom.global.add.u32 %r5, [%count], 1; // HERE"


def program(earlier: str = "", waits: str = WAIT, later: str = "") -> str:
    return SUM.replace("EARLIER", earlier).replace("WAITS", waits).replace("LATER", later)


def buffers() -> list[Buffer]:
    return [
        read("x", X), constant("w", 3 * X), result("out", X.size), scratch("count", np.uint32([0])),
    ]  # fmt: skip


@every_order
def test_early_launch_waits(schedule: str, lazy: bool) -> None:
    for early in (True, False):
        x, w, out, count = buffers()
        launch = {**EARLY, "early": early, "schedule": schedule, "lazy": lazy}
        run(program(later=ATOMIC), x, w, out, count, **launch)
        np.testing.assert_array_equal(out.array, 4 * X)
        assert count.array[0] == X.size


@every_order
def test_early_launch_reads_constants_at_once(schedule: str, lazy: bool) -> None:
    x, w, out, count = buffers()
    run(program(BULK.replace("FROM", "%w")), x, w, out, count, **EARLY, schedule=schedule,
        lazy=lazy)  # fmt: skip
    np.testing.assert_array_equal(out.array, 4 * X)


def too_early(name: str, earlier: str, later: str, what: str) -> Pair:
    return Pair(
        name, program("FAULT", WAIT, later), earlier, "",
        (f"block (*,0,0), warp * lane * (thread *), {{HERE}}: {what} {BEFORE}",), buffers, EARLY,
    )  # fmt: skip


FAULTS = [
    too_early("read", READ, "", "reads x[*:*]"),
    too_early("write", WRITE, "", "writes out[*:*]"),
    too_early("atomic", ATOMIC, "", "updates count[0:4]"),
    too_early("bulk-copy", BULK.replace("FROM", "%x"), "", "reads x[*:*]"),
    too_early("one-thread", "setp.eq.u32 %p4, %tid, 10; @%p4 " + READ, "", "reads x[*:*]"),
    Pair("no-wait", program(waits="FAULT", later="bra END; // HERE") + "END:\n", "", WAIT,
         ("block (*,0,0), warp * ends its block without griddepcontrol.wait in an early "
          "launch: the next launch would not wait for the launches before this one",),
         lambda: [read("x", X), constant("w", X), scratch("out", X)], EARLY),
    Pair("one-block-does-not-wait",
         program(waits="setp.eq.u32 %p5, %block, 1; FAULT griddepcontrol.wait; // HERE"),
         "@%p5", "",
         (f"block (0,0,0), warp * lane * (thread *), *: reads x[*:*] {BEFORE}",), buffers, EARLY),
    Pair("a-constant-is-written", program(later="FAULT"),
         "st.global.u32 [%rd2], %r2; // HERE", "",
         ("block (*,0,0), warp * lane * (thread *), {HERE}: writes w[*:*], but the buffer is "
          "read-only",), buffers, EARLY),
]  # fmt: skip


@pytest.mark.parametrize("pair", FAULTS, ids=lambda pair: pair.name)
def test_fault_is_found(pair: Pair) -> None:
    assert_fails_in_every_order(pair)


@pytest.mark.parametrize("pair", FAULTS, ids=lambda pair: pair.name)
def test_right_program_raises_no_alarm(pair: Pair) -> None:
    assert_runs_in_every_order(pair)


@pytest.mark.parametrize("pair", FAULTS[:5], ids=lambda pair: pair.name)
def test_late_launch_needs_no_wait(pair: Pair) -> None:
    """Of an ordinary launch; what it writes twice is another fault."""
    if pair.name != "write":
        run(pair.body(True), *buffers(), **{**EARLY, "early": False})
