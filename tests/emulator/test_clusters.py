"""Clusters on the emulator: blocks that read, write and wake each other; faults."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from support.ptx_pairs import (
    Pair,
    assert_fails_in_every_order,
    assert_runs_in_every_order,
)
from support.ptx_programs import Buffer, address, every_order, read, result, run

from vgg_cuda import _C

pytestmark = pytest.mark.emulator

LANE = np.arange(32)
PAIR: dict[str, Any] = {"grid": 2, "cluster": (2, 1, 1)}
SYNC = "barrier.cluster.arrive.release.aligned; barrier.cluster.wait.acquire.aligned;"


@pytest.mark.parametrize("cluster", [(1, 1, 1), (2, 1, 1), (2, 3, 1), (1, 1, 2), (4, 3, 1)])
@pytest.mark.parametrize("by_launch", [True, False])
def test_cluster_indices(cluster: tuple[int, int, int], by_launch: bool) -> None:
    grid = (4, 3, 2)
    names = [f"{name}.{axis}" for name in ("cluster_ctaid", "cluster_nctaid", "clusterid",
                                           "nclusterid") for axis in "xyz"]  # fmt: skip
    names += ["cluster_ctarank", "cluster_nctarank"]
    out = result("out", (24, len(names)))
    body = """setp.ne.u32 %p1, %tid, 0; @%p1 ret;
    mad.lo.u32 %r2, %ctaid.z, 3, %ctaid.y; mad.lo.u32 %r2, %r2, 4, %ctaid.x;
    """ + address("%rd1", "out", "%r2", 4 * len(names))
    body += "".join(
        f"mov.u32 %r3, %{name}; st.global.u32 [%rd1+{4 * i}], %r3;\n"
        for i, name in enumerate(names)
    )
    size = ", ".join(map(str, cluster))
    launch: dict[str, Any] = (
        {"cluster": cluster} if by_launch else {"directives": f".reqnctapercluster {size}"}
    )
    run(body, out, grid=grid, **launch)
    expected = []
    for z in range(2):
        for y in range(3):
            for x in range(4):
                inner = [i % c for i, c in zip((x, y, z), cluster, strict=True)]
                outer = [i // c for i, c in zip((x, y, z), cluster, strict=True)]
                count = [g // c for g, c in zip(grid, cluster, strict=True)]
                rank = (inner[2] * cluster[1] + inner[1]) * cluster[0] + inner[0]
                expected.append([*inner, *cluster, *outer, *count, rank, np.prod(cluster)])
    np.testing.assert_array_equal(out.array, expected)


OWN = """.shared .align 16 .b8 smem[256]; .shared .align 8 .b8 bar[8];
mov.u32 %r1, smem; mov.u32 %r2, bar;
mov.u32 %r10, %cluster_ctarank; mov.u32 %r11, %cluster_nctarank;
add.u32 %r12, %r10, 1; rem.u32 %r12, %r12, %r11;
mad.lo.u32 %r3, %tid, 4, %r1; mad.lo.u32 %r4, %r10, 1000, %tid;
"""
OUT = address("%rd1", "out", "%thread", 4) + "st.global.u32 [%rd1], %r6;\n"
EXCHANGE = (
    OWN
    + "st.shared.u32 [%r3], %r4;\nBEFORE\n"
    + "mapa.shared::cluster.u32 %r5, %r3, %r12; LOAD\nAFTER\n"
    + OUT
)
LOADS = {
    "shared": "ld.shared::cluster.u32 %r6, [%r5];",
    "generic": "cvt.u64.u32 %rd5, %r3; cvta.shared.u64 %rd5, %rd5; mapa.u64 %rd5, %rd5, %r12;"
    "ld.u32 %r6, [%rd5];",
    "atomic": "atom.shared::cluster.add.u32 %r6, [%r5], 0;",
}


@every_order
@pytest.mark.parametrize("load", LOADS)
@pytest.mark.parametrize("blocks", [2, 4])
def test_cluster_blocks_read_each_other(load: str, blocks: int, schedule: str, lazy: bool) -> None:
    body = EXCHANGE.replace("BEFORE", SYNC).replace("AFTER", SYNC).replace("LOAD", LOADS[load])
    out = result("out", 8 * 32)
    launch: dict[str, Any] = {"grid": 8, "cluster": (blocks, 1, 1)}
    run(body, out, **launch, schedule=schedule, lazy=lazy)
    rank = np.arange(8)[:, None] % blocks
    np.testing.assert_array_equal(out.array.reshape(8, 32), (rank + 1) % blocks * 1000 + LANE)


FENCE = "fence.mbarrier_init.release.cluster;"
INIT = f"""setp.ne.u32 %p1, %tid, 0; @%p1 bra READY;
mbarrier.init.shared::cta.b64 [%r2], COUNT; {FENCE}
READY: bar.warp.sync -1; START
"""
WAIT = "WAIT: mbarrier.try_wait.parity.acquire.cluster.shared::cta.b64 %p2, [%r2], 0;\n"
WAIT += "@!%p2 bra WAIT;\n"
RELAXED = "barrier.cluster.arrive.relaxed; barrier.cluster.wait;"
STORE = (
    OWN
    + INIT.replace("COUNT", "1")
    + """@!%p1 mbarrier.arrive.expect_tx.shared::cta.b64 _, [%r2], 128;
mapa.shared::cluster.u32 %r5, %r3, %r12; mapa.shared::cluster.u32 %r7, %r2, %r12;
st.async.weak.shared::cluster.mbarrier::complete_tx::bytes.b32 [%r5], %r4, [%r7];
AWAIT
ld.shared.u32 %r6, [%r3];
"""
    + OUT
)


@every_order
@pytest.mark.parametrize("start", [SYNC, RELAXED])
def test_cluster_stores_that_arrive(start: str, schedule: str, lazy: bool) -> None:
    out = result("out", 4 * 32)
    body = STORE.replace("START", start).replace("AWAIT", WAIT)
    run(body, out, grid=4, cluster=(2, 1, 1), schedule=schedule, lazy=lazy)
    rank = np.arange(4)[:, None] % 2
    np.testing.assert_array_equal(out.array.reshape(4, 32), (rank ^ 1) * 1000 + LANE)


ARRIVE = (
    OWN
    + INIT.replace("COUNT", "32")
    + """mapa.shared::cluster.u32 %r5, %r3, %r12; mapa.shared::cluster.u32 %r7, %r2, %r12;
st.shared::cluster.u32 [%r5], %r4;
ARRIVAL
AWAIT
ld.shared.u32 %r6, [%r3];
"""
    + OUT
)
REMOTE = "mbarrier.arrive.release.cluster.shared::cluster.b64 _, [%r7];"


@every_order
def test_cluster_arrivals_at_remote_mbarriers(schedule: str, lazy: bool) -> None:
    out = result("out", 64)
    body = ARRIVE.replace("START", SYNC).replace("AWAIT", WAIT).replace("ARRIVAL", REMOTE)
    run(body, out, **PAIR, schedule=schedule, lazy=lazy)
    np.testing.assert_array_equal(out.array.reshape(2, 32), np.add.outer([1000, 0], LANE))


@every_order
def test_one_thread_may_wait_for_the_last_arrivals(schedule: str, lazy: bool) -> None:
    """A block ends after the other block's arrivals if one of its threads has waited for them."""
    body = OWN + INIT.replace("COUNT", "32").replace("START", RELAXED)
    body += f"mapa.shared::cluster.u32 %r7, %r2, %r12; {REMOTE} @%p1 ret;\n{WAIT}"
    run(body, **PAIR, schedule=schedule, lazy=lazy)


MULTICAST = (
    OWN
    + INIT.replace("COUNT", "1")
    + """@%p1 bra WAIT;
mbarrier.arrive.expect_tx.shared::cta.b64 _, [%r2], 128;
mov.u16 %h1, 3; setp.ne.u32 %p3, %r10, 0; @%p3 bra WAIT;
"""
    + "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster "
    + "[%r1], [%x], 128, [%r2], %h1;\n"
    + WAIT
    + "ld.shared.u32 %r6, [%r3];\n"
    + OUT
)  # fmt: skip


@every_order
def test_cluster_multicast(schedule: str, lazy: bool) -> None:
    x, out = read("x", np.arange(32, dtype=np.uint32)), result("out", 64)
    body = MULTICAST.replace("START", SYNC)
    counters = run(body, x, out, **PAIR, schedule=schedule, lazy=lazy)
    np.testing.assert_array_equal(out.array.reshape(2, 32), [LANE, LANE])
    assert (counters["bulk_load_bytes"], counters["bulk_shared_bytes"]) == (128, 256)
    assert counters["bulk_copies"] == 1


def outputs() -> list[Buffer]:
    return [result("out", 64)]


def x_outputs() -> list[Buffer]:
    return [read("x", LANE.astype(np.uint32)), result("out", 64)]


def exchange(name: str, part: str, fault: str, *messages: str) -> Pair:
    body = EXCHANGE.replace("LOAD", LOADS["shared"]).replace(part, "FAULT // HERE")
    body = body.replace("BEFORE", SYNC).replace("AFTER", SYNC)
    return Pair(name, body, fault, SYNC, messages, outputs, PAIR)


RACES = (
    "block (*,0,0), warp 0 * race: reads shared memory byte * that block * warp 0 lane * "
    "wrote (*) without a barrier in between",
    "block (*,0,0), warp 0 * reads shared memory byte *, which was never written",
    "block (*,0,0), warp 0 * race: writes shared memory byte * that block * warp 0 lane * "
    "read (*) without a barrier in between",
)
ENDS = (
    "block (*,0,0), warp 0 (threads 0-31), *: ends its block while warp 0 of block (*,0,0) may "
    "still access its shared memory (*): a barrier.cluster is missing in between",
    "block (*,0,0), warp 0 * shared memory of block (*,0,0), which has ended",
)
UNSEEN = (
    "block (*,0,0), warp 0 * uses the mbarrier at byte 256 that * initialised (*) without a "
    "barrier in between",
)
RELAXED_STORE = STORE.replace("AWAIT", WAIT).replace("START", RELAXED)
MAKE = "mbarrier.init.shared::cta.b64 [%r2], 1; "
FAULTS = [
    exchange("no-barrier-before", "BEFORE", "", *RACES),
    exchange("relaxed-barrier-before", "BEFORE", RELAXED, *RACES),
    # fence.mbarrier_init releases nothing but initialisations.
    exchange("fenced-relaxed-barrier-before", "BEFORE", FENCE + RELAXED, *RACES),
    exchange("no-barrier-after", "AFTER", "", *ENDS),
    exchange("relaxed-barrier-after", "AFTER", RELAXED, ENDS[0]),
    Pair("address-of-another-block", EXCHANGE.replace("LOAD", "FAULT // HERE")
         .replace("BEFORE", SYNC).replace("AFTER", SYNC),
         LOADS["shared"].replace("::cluster", "::cta"), LOADS["shared"],
         ("block (*,0,0), warp 0 lane 0 (thread 0), *: reads shared memory of block (*,0,0), at an "
          "address that is not in the thread's own block (shared::cta)",),
         outputs, PAIR),
    exchange("arrives-twice", "AFTER", "barrier.cluster.arrive; barrier.cluster.arrive;",
             "@ * * arrives at barrier.cluster again without barrier.cluster.wait",
             "block (*,0,0), warp 0 * arrives at barrier.cluster again without "
             "barrier.cluster.wait"),
    exchange("waits-without-arriving", "AFTER", "barrier.cluster.wait;",
             "block (*,0,0), warp 0 * waits at barrier.cluster without "
             "barrier.cluster.arrive"),
    exchange("one-block-does-not-arrive", "BEFORE",
             f"setp.eq.u32 %p5, %r10, 1; @%p5 bra W; {SYNC} W: bar.sync 0;",
             *RACES, *ENDS, "block (*,0,0), warp 0 *", "block (0,0,0): deadlock: *"),
    Pair("no-such-block", EXCHANGE.replace("LOAD", LOADS["shared"]).replace("AFTER", SYNC)
         .replace("BEFORE", SYNC + "FAULT // HERE"),
         "add.u32 %r12, %r12, 5;", "",
         ("block (*,0,0), warp 0 lane 0 (thread 0), *: maps an address to block * of a cluster of "
          "2",),
         outputs, PAIR),
    Pair("initialisation-not-shown", STORE.replace("AWAIT", WAIT).replace("START", "FAULT // HERE"),
         "", SYNC,
         ("block (*,0,0), warp 0 * uses an mbarrier at byte * that is not initialised",
          "block (*,0,0), warp 0 * uses the mbarrier at byte 256 that * initialised (*) without a "
          "barrier in between",
          "block (*,0,0), warp 0 * shared memory of block (*,0,0), which has ended"),
         outputs, PAIR),
    Pair("relaxed-start-without-a-fence", RELAXED_STORE.replace(FENCE, "FAULT // HERE\n"), "",
         FENCE, UNSEEN, outputs, PAIR),
    Pair("initialisation-after-the-fence",
         RELAXED_STORE.replace(MAKE + FENCE, "FAULT // HERE\n"), FENCE + MAKE, MAKE + FENCE,
         UNSEEN, outputs, PAIR),
    Pair("remote-store-not-waited-for",
         ARRIVE.replace("START", SYNC).replace("ARRIVAL", REMOTE).replace("AWAIT", "FAULT // HERE"),
         "", WAIT, (*RACES, *ENDS,
         "block (*,0,0), warp 0 * race: writes shared memory byte * without a barrier in between"),
         outputs, PAIR),
    Pair("relaxed-remote-arrival",
         ARRIVE.replace("START", SYNC).replace("ARRIVAL", "FAULT // HERE").replace("AWAIT", WAIT),
         "mbarrier.arrive.relaxed.cluster.shared::cluster.b64 _, [%r7];", REMOTE, RACES,
         outputs, PAIR),
    Pair("multicast-without-receiver", MULTICAST.replace("START", SYNC).replace("mov.u16 %h1, 3;",
         "FAULT // HERE\n"), "mov.u16 %h1, 5;", "mov.u16 %h1, 3;",
         ("block (0,0,0), warp 0 lane 0 (thread 0), *: copies to blocks outside its cluster of "
          "2",), x_outputs, PAIR),
    Pair("multicast-before-the-mbarrier", MULTICAST.replace("START", "FAULT // HERE"), "", SYNC,
         ("block (*,0,0), warp 0 * uses an mbarrier at byte 256 that is not initialised",
          "block (*,0,0), warp 0 * uses the mbarrier at byte 256 that * initialised (*) without a "
          "barrier in between"), x_outputs, PAIR),
    Pair("multicast-that-is-missed", MULTICAST.replace("START", SYNC).replace("mov.u16 %h1, 3;",
         "FAULT // HERE\n"), "mov.u16 %h1, 1;", "mov.u16 %h1, 3;",
         ("* block (1,0,0): deadlock: * at the mbarrier at byte 256 (phase 0: 1 of 1 arrivals, 128 "
          "bytes missing), *",
          "block (1,0,0): deadlock: * at the mbarrier at byte 256 (phase 0: 1 of 1 arrivals, 128 "
          "bytes missing), *"), x_outputs, PAIR),
]  # fmt: skip


@pytest.mark.parametrize("pair", FAULTS, ids=lambda pair: pair.name)
def test_fault_is_found(pair: Pair) -> None:
    assert_fails_in_every_order(pair)


@pytest.mark.parametrize("pair", FAULTS, ids=lambda pair: pair.name)
def test_right_program_raises_no_alarm(pair: Pair) -> None:
    assert_runs_in_every_order(pair)


@pytest.mark.parametrize(
    ("launch", "message"),
    [
        ({"grid": 3, "cluster": (2, 1, 1)}, "a grid that is not a multiple of the cluster size"),
        ({"grid": 32, "cluster": (32, 1, 1)}, "clusters of 32 blocks"),
        ({"grid": 2, "cluster": (0, 1, 1)}, "clusters of 0 blocks"),
        (
            {"grid": 4, "cluster": (4, 1, 1), "directives": ".reqnctapercluster 2, 1, 1"},
            "a cluster size that differs from its .reqnctapercluster",
        ),
    ],
    ids=["grid", "32", "0", "directive"],
)
def test_launch_arguments_are_checked(launch: dict[str, Any], message: str) -> None:
    with pytest.raises(_C.EmulatorError, match=re.escape("launch with " + message)):
        run("", **launch)
