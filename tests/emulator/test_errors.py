"""What errors of the emulator name: lines, callers, threads and blocks."""

from __future__ import annotations

import re

import pytest
from support.ptx_programs import (
    SOURCE,
    entry,
    run,
)

from vgg_cuda import _C

pytestmark = pytest.mark.emulator


def test_error_names_callers_of_an_inlined_line() -> None:
    text = entry("ld.global.u32 %r1, [0];").replace(
        ".loc 1 1 1\n",
        ".loc 1 12 5\n.loc 2 77 3, function_name $L__info_string0, inlined_at 1 12 5\n",
    )
    text += '.file 2 "csrc/kernels/inner.cuh"\n'
    emulator = _C.Emulator()
    with pytest.raises(_C.EmulatorError) as error:
        emulator.launch(text, "example", grid=(1, 1, 1), block=(32, 1, 1), params=b"", buffers=[])
    assert f"kernels/inner.cuh:77 (inlined at {SOURCE}:12): reads 4 bytes" in str(error.value)


def test_error_without_line_numbers() -> None:
    text = re.sub(r"\.loc.*\n", "", entry("ld.global.u32 %r1, [0];"))
    emulator = _C.Emulator()
    with pytest.raises(_C.EmulatorError, match=r"unknown line \(PTX without \.loc\)"):
        emulator.launch(text, "example", grid=(1, 1, 1), block=(32, 1, 1), params=b"", buffers=[])


def test_error_names_threads_in_three_dimensions() -> None:
    body = "setp.eq.u32 %p1, %tid.z, 1; @%p1 ld.global.u32 %r1, [0];"
    with pytest.raises(_C.EmulatorError, match=r"block \(0,0,0\), warp 1 lane 0 \(thread 32\)"):
        run(body, block=(4, 8, 2))
    body = "setp.eq.u32 %p1, %ctaid.y, 1; @%p1 ld.global.u32 %r1, [0];"
    with pytest.raises(_C.EmulatorError, match=r"block \(0,1,0\), warp 0"):
        run(body, grid=(3, 2, 2))


def test_calls_are_refused() -> None:
    """As nvcc writes one that it did not inline."""
    body = """{ .param .b64 param0; st.param.b64 [param0], %rd1;
    .param .b32 retval0;
    call.uni (retval0), helper, (param0);
    ld.param.b32 %r1, [retval0]; }"""
    with pytest.raises(_C.EmulatorError, match=r"PTX line \d+.*calls are not modelled"):
        run(body)
