"""Asynchronous copies (cp.async) on the emulator, in every order."""

from __future__ import annotations

import numpy as np
import pytest
from support.ptx_programs import (
    address,
    aligned,
    compute,
    every_order,
    read,
    result,
    run,
)

from vgg_cuda import _C

pytestmark = pytest.mark.emulator

LANE = np.arange(32)


def copied(bytes_: int, code: str, source: np.ndarray, **options: object) -> np.ndarray:
    """What each thread finds in its ``bytes_`` of shared memory (%r2) after ``code``."""
    out = result("out", 32 * bytes_, np.uint8)
    words = bytes_ // 4
    values = [f"%r{40 + i}" for i in range(words)]
    value, vector = (f"{{{', '.join(values)}}}", f".v{words}") if words > 1 else (values[0], "")
    body = f""".shared .align 16 .b8 smem[{32 * bytes_}];
    mov.u32 %r1, smem; mad.lo.u32 %r2, %tid, {bytes_}, %r1;
    {address("%rd1", "x", "%tid", bytes_)} {address("%rd2", "out", "%tid", bytes_)}
    {code}
    ld.shared{vector}.u32 {value}, [%r2];
    st.global{vector}.u32 [%rd2], {value};"""
    run(body, read("x", source), out, **options)
    return out.array


NOISE = np.random.default_rng(0).integers(1, 256, 512, np.uint8)


@every_order
@pytest.mark.parametrize("bytes_", [4, 8, 16])
@pytest.mark.parametrize("wait", ["group", "all"])
def test_cp_async_copies(bytes_: int, wait: str, schedule: str, lazy: bool) -> None:
    cache = "cg" if bytes_ == 16 else "ca"
    code = f"cp.async.{cache}.shared.global [%r2], [%rd1], {bytes_};"
    code += (
        "cp.async.commit_group; cp.async.wait_group 0;" if wait == "group" else "cp.async.wait_all;"
    )
    x = NOISE[: 32 * bytes_]
    got = copied(bytes_, code, x, schedule=schedule, lazy=lazy)
    np.testing.assert_array_equal(got, x)


@every_order
@pytest.mark.parametrize("bytes_", [4, 8, 16])
def test_cp_async_fills_up_with_zeros(bytes_: int, schedule: str, lazy: bool) -> None:
    """Source sizes 0, 1, ... up to the whole; nothing beyond them is read."""
    cache = "cg" if bytes_ == 16 else "ca"
    code = f"""rem.u32 %r9, %tid, {bytes_ + 1};
    cp.async.{cache}.shared.global [%r2], [%rd1], {bytes_}, %r9;
    cp.async.wait_all;"""
    x = NOISE[: 32 * bytes_]
    kept = np.arange(bytes_) < (LANE % (bytes_ + 1))[:, None]
    got = copied(bytes_, code, x, schedule=schedule, lazy=lazy)
    np.testing.assert_array_equal(got.reshape(32, -1), np.where(kept, x.reshape(32, -1), 0))


def test_cp_async_of_zero_bytes_ignores_address() -> None:
    code = """mov.u32 %r9, 0; sub.s64 %rd1, %rd1, 1600;
    cp.async.cg.shared.global.L2::128B [%r2], [%rd1], 16, %r9;
    cp.async.wait_all;"""
    np.testing.assert_array_equal(copied(16, code, NOISE), np.zeros(512))


def test_cp_async_may_be_ignored() -> None:
    """A predicate in the place of the source size: true copies nothing, and writes zeros."""
    code = """and.b32 %r9, %tid, 1; setp.eq.u32 %p1, %r9, 1;
    cp.async.cg.shared.global [%r2], [%rd1], 16, %p1;
    cp.async.wait_all;"""
    expected = np.where(LANE[:, None] % 2 == 1, 0, NOISE.reshape(32, 16))
    np.testing.assert_array_equal(copied(16, code, NOISE).reshape(32, 16), expected)


@every_order
@pytest.mark.parametrize("pending", [0, 1, 2])
def test_cp_async_waits_for_older_groups(pending: int, schedule: str, lazy: bool) -> None:
    """Three groups and an empty one; the oldest 4 - pending have arrived and may be read."""
    x = NOISE[:384]
    out = result("out", 4 - max(pending, 1), np.uint32)
    code = (
        """.shared .align 16 .b8 smem[48];
    setp.ne.u32 %p1, %tid, 0; @%p1 bra END;
    mov.u32 %r1, smem;
    cp.async.ca.shared.global [%r1], [%x], 4; cp.async.commit_group;
    cp.async.ca.shared.global [%r1+4], [%x+4], 4; cp.async.commit_group;
    cp.async.ca.shared.global [%r1+8], [%x+8], 4; cp.async.commit_group;
    cp.async.commit_group;
    """
        + f"cp.async.wait_group {pending};"
    )
    for i in range(len(out.array)):
        code += f"ld.shared.u32 %r2, [%r1+{4 * i}]; st.global.u32 [%out+{4 * i}], %r2;"
    run(code + "cp.async.wait_all;\nEND:", read("x", x), out, schedule=schedule, lazy=lazy)
    np.testing.assert_array_equal(out.array, x.view(np.uint32)[: len(out.array)])


@every_order
def test_cp_async_for_other_warps(schedule: str, lazy: bool) -> None:
    """Each waits for its own copies; after the barrier, all may read all."""
    code = (
        """.shared .align 16 .b8 smem[1024];
    mov.u32 %r1, smem; mad.lo.u32 %r2, %tid, 16, %r1;
    """
        + address("%rd1", "x", "%tid", 16)
        + """
    cp.async.cg.shared.global [%r2], [%rd1], 16;
    cp.async.commit_group;
    cp.async.wait_group 0;
    bar.sync 0;
    xor.b32 %r3, %r2, 512; ld.shared.u32 %d, [%r3];"""
    )
    x = np.arange(256, dtype=np.uint32)
    got = compute(code, 64, np.uint32, read("x", x), schedule=schedule, lazy=lazy)
    np.testing.assert_array_equal(got, 4 * (np.arange(64) ^ 32))


@pytest.mark.parametrize("options", [{"schedule": "sideways"}, {"schedule": ""}], ids=str)
def test_unknown_options_are_refused(options: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="schedule: expected one of forward, random, reverse"):
        _C.Emulator(**options)


def test_shared_memory_starts_poisoned() -> None:
    """What a kernel has not written is NaN, not what was there."""
    out = aligned(np.zeros(4, np.float32))
    emulator = _C.Emulator()
    text = ".version 7.8\n.target sm_80\n.entry nothing() { ret; }\n"
    with pytest.raises(_C.EmulatorError, match="16 of the 16 bytes of y were never written"):
        emulator.launch(text, "nothing", grid=(1, 1, 1), block=(32, 1, 1), params=b"",
                        buffers=[("y", out, "write_once")])  # fmt: skip
    assert np.isnan(out).all()
