"""Programs with mbarriers: a ring of stages, bulk copies there and back, register allocation."""

from __future__ import annotations

import numpy as np
from support.ptx_programs import address

LANE = np.arange(32)
WORDS = np.arange(256, dtype=np.uint32)

INIT = """.shared .align 128 .b8 smem[2048]; .shared .align 8 .b8 full[16];
    .shared .align 8 .b8 empty[16];
    mov.u32 %r1, smem; mov.u32 %r2, full; mov.u32 %r3, empty;
    setp.ne.u32 %p10, %tid, 0;
    @%p10 bra READY;
    mbarrier.init.shared::cta.b64 [%r2], FULL; mbarrier.init.shared.b64 [%r3], EMPTY;
    fence.mbarrier_init.release.cluster;
    READY: bar.sync 0;
"""


def setup(full: int, empty: int = 1) -> str:
    return INIT.replace("FULL", str(full)).replace("EMPTY", str(empty))


def wait(label: str, barrier: str, parity: str, kind: str = "try_wait.parity") -> str:
    return (
        f"{label}: mbarrier.{kind}.shared::cta.b64 %p9, [{barrier}], {parity}; @!%p9 bra {label};"
    )


RING = (
    setup(32, 32)
    + """
    mov.u32 %r10, 0;
    setp.eq.u32 %p1, %warp, 1; @%p1 bra CONSUMER;
    PRODUCE: and.b32 %r11, %r10, 1; xor.b32 %r12, %r11, 1;
    WAIT_EMPTY
    mad.lo.u32 %r13, %lane, 4, %r1; mad.lo.u32 %r14, %r10, 100, %lane; st.shared.u32 [%r13], %r14;
    ARRIVE_FULL
    add.u32 %r10, %r10, 1; setp.lt.u32 %p2, %r10, 5; @%p2 bra PRODUCE;
    bra END;
    CONSUMER: and.b32 %r11, %r10, 1;
    WAIT_FULL
    xor.b32 %r13, %lane, 1; mad.lo.u32 %r13, %r13, 4, %r1; ld.shared.u32 %r14, [%r13];
    ARRIVE_EMPTY
    mad.lo.u32 %r15, %r10, 32, %lane;"""
    + address("%rd1", "out", "%r15", 4)
    + """st.global.u32 [%rd1], %r14;
    add.u32 %r10, %r10, 1; setp.lt.u32 %p2, %r10, 5; @%p2 bra CONSUMER;
    END:"""
)
RING_PARTS = {
    "WAIT_EMPTY": wait("W1", "%r3", "%r12"),
    "WAIT_FULL": wait("W2", "%r2", "%r11"),
    "ARRIVE_FULL": "mbarrier.arrive.shared::cta.b64 _, [%r2];",
    "ARRIVE_EMPTY": "mbarrier.arrive.release.cta.shared::cta.b64 %rd9, [%r3];",
}


def ring(**parts: str) -> str:
    body = RING
    for name, text in {**RING_PARTS, **parts}.items():
        body = body.replace(name, text)
    return body


ROUND_TRIP = (
    setup(1)
    + """
    mov.u32 %r10, 0; setp.ne.u32 %p1, %tid, 0;
    LOOP: @%p1 bra LOADED;
    mul.wide.u32 %rd1, %r10, 256; add.s64 %rd2, %rd1, %x;
    mbarrier.arrive.expect_tx.shared::cta.b64 _, [%r2], 256;
    cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%r1], [%rd2], 256, [%r2];
    LOADED: and.b32 %r11, %r10, 1;
    WAIT
    mad.lo.u32 %r12, %tid, 4, %r1;
    ld.shared.u32 %r13, [%r12]; add.u32 %r13, %r13, 7; st.shared.u32 [%r12+1024], %r13;
    fence.proxy.async.shared::cta;
    bar.sync 0;
    @%p1 bra STORED;
    add.s64 %rd3, %rd1, %out;
    cp.async.bulk.global.shared::cta.bulk_group [%rd3], [%r1+1024], 256;
    cp.async.bulk.commit_group;
    cp.async.bulk.wait_group.read 0;
    STORED: bar.sync 0;
    add.u32 %r10, %r10, 1; setp.lt.u32 %p2, %r10, 4; @%p2 bra LOOP;"""
).replace("WAIT", wait("W", "%r2", "%r11"))


SPECIALISED = """setp.lt.u32 %p1, %warp, 4; @%p1 bra PRODUCER;
setmaxnreg.inc.sync.aligned.u32 RAISED; // HERE
bra END;
PRODUCER: setmaxnreg.dec.sync.aligned.u32 40;
END:"""
DIRECTIVES = ".maxntid 384, 1, 1 .minnctapersm 1"
