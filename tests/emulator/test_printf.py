"""printf and trap on the emulator: the text, where it goes, and which calls are refused."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import pytest
from support.ptx_programs import address, entry, result, run, scratch

from vgg_cuda import _C

pytestmark = pytest.mark.emulator

FUNCTION = ".extern .func (.param .b32 out) vprintf (.param .b64 format, .param .b64 arguments);"
CALL = """{ .param .b64 param0; st.param.b64 [param0+0], %rd40;
.param .b64 param1; st.param.b64 [param1+0], %rd41;
.param .b32 retval0;
call.uni (retval0), vprintf, (param0, param1); // HERE
ld.param.b32 %r50, [retval0+0]; }"""


def variable(name: str, text: str) -> str:
    data = text.encode() + b"\0"
    return f".global .align 1 .b8 {name}[{len(data)}] = {{{', '.join(map(str, data))}}};"


def printing(text: str, body: str = "", then: str = "") -> str:
    """Return a module that prints ``text`` with the arguments that ``body`` puts into %SPL."""
    depot = """.local .align 16 .b8 __local_depot0[64]; .reg .b64 %SP, %SPL;
mov.u64 %SPL, __local_depot0; cvta.local.u64 %SP, %SPL;
mov.u64 %rd40, $str; cvta.global.u64 %rd40, %rd40; mov.u64 %rd41, %SP;"""
    module = entry("\n".join([depot, body, CALL, then]))
    strings = [FUNCTION, variable("$str", text), variable("$name", "kernel name")]
    return module.replace(".extern .shared", "\n".join(strings) + "\n.extern .shared")


def launch(module: str, **launch: Any) -> None:
    options = {"grid": (1, 1, 1), "block": (1, 1, 1), "params": b"", "buffers": [], **launch}
    _C.Emulator(workers=1).launch(module, "example", **options)


def stores(*values: tuple[str, Any]) -> str:
    """Store arguments as nvcc does: each at a multiple of its size."""
    code, offset = [], 0
    for kind, value in values:
        size = struct.calcsize(kind)
        offset = -(-offset // size) * size
        bits = int.from_bytes(struct.pack(f"<{kind}", value), "little")
        register = "%rd50" if size == 8 else "%r51"
        code += [f"mov.b{8 * size} {register}, {bits};"]
        code += [f"st.local.b{8 * size} [%SPL+{offset}], {register};"]
        offset += size
    return "\n".join(code)


@pytest.mark.parametrize(
    ("text", "arguments", "expected"),
    [
        ("plain 100%%\n", [], "plain 100%\n"),
        ("%d|%5i|%-5d|%+d", [("i", -7), ("i", 42), ("i", 42), ("i", 3)], "-7|   42|42   |+3"),
        ("%u|%x|%#X|%o", [("I", 2**32 - 1), ("I", 48879), ("I", 255), ("I", 8)],
         "4294967295|beef|0XFF|10"),
        ("%lld %c %llu", [("q", -(2**40)), ("I", 65), ("Q", 2**63)],
         "-1099511627776 A 9223372036854775808"),
        ("%hhd %hu %ld %zu", [("i", 511), ("I", 65537), ("q", -1), ("Q", 9)], "-1 1 -1 9"),
        ("%08.3f %g %.2e", [("d", 3.14159), ("d", 0.5), ("d", 12345.0)],
         "0003.142 0.5 1.23e+04"),
        ("%p|%5.1s|", [("Q", 4096), ("Q", 0)], "0x1000|    (|"),
    ],
)  # fmt: skip
def test_printf_formats(
    text: str, arguments: list[tuple[str, Any]], expected: str, capfd: pytest.CaptureFixture[str]
) -> None:
    launch(printing(text, stores(*arguments)))
    assert capfd.readouterr().out == expected


def test_printf_prints_strings_and_every_thread(capfd: pytest.CaptureFixture[str]) -> None:
    body = """mov.u64 %rd50, $name; cvta.global.u64 %rd50, %rd50; st.local.u64 [%SPL], %rd50;
    st.local.u32 [%SPL+8], %thread; setp.lt.u32 %p1, %lane, 30; @%p1 ret;"""
    launch(printing("%s: %u\n", body), block=(64, 1, 1))
    lines = [f"kernel name: {thread}" for thread in (30, 31, 62, 63)]
    assert capfd.readouterr().out.splitlines() == lines


def test_printf_returns_the_number_of_arguments() -> None:
    then = "setp.ne.u32 %p1, %r50, 2; @%p1 trap;"
    launch(printing("%d %% %d", stores(("i", 1), ("i", 2)), then))
    with pytest.raises(_C.EmulatorError, match="executes trap"):
        launch(printing("%d", stores(("i", 1)), then))


def test_error_quotes_what_was_printed(capfd: pytest.CaptureFixture[str]) -> None:
    """The text is part of the error if the launch fails, and goes to stdout otherwise."""
    module = printing("stage %u\n", stores(("I", 3)), "trap;")
    with pytest.raises(_C.EmulatorError) as error:
        launch(module)
    head, *printed = str(error.value).splitlines()
    assert head.startswith("kernel example: block (0,0,0), warp 0 lane 0 (thread 0), kernels/")
    assert head.endswith(": executes trap")
    assert printed == ["printed by the kernel:", "stage 3"]
    assert capfd.readouterr().out == ""


def test_printed_text_is_limited(capfd: pytest.CaptureFixture[str]) -> None:
    again = "add.u32 %r60, %r60, 1; setp.lt.u32 %p1, %r60, 300; @%p1 bra AGAIN;"
    launch(printing("x" * 4095 + "\n", "mov.u32 %r60, 0; AGAIN:", again))
    assert len(capfd.readouterr().out) == 2**20


@pytest.mark.parametrize(
    ("text", "body", "message"),
    [
        ("%n", "", "prints with '%n', which is not modelled"),
        ("%*d", "", r"prints with '%\*', which is not modelled"),
        ("end %", "", "prints with '%', which is not modelled"),
        ("%hld", "", "prints with '%hld', which is not modelled"),
        ("%d", "mov.u64 %rd41, 0;", "an argument that is not in its local memory"),
        ("%d", "add.u64 %rd41, %SP, 256;", "an argument that is not in its local memory"),
        ("%d", "add.u64 %rd41, %SP, -4;", "an argument that is not in its local memory"),
        ("%s", stores(("Q", 64)), "reads 1 bytes at 0x40, which is in no buffer"),
        ("%s", "st.local.u64 [%SPL], %SP;", "prints a string that is not in global memory"),
        ("%d", "mov.u64 %rd40, 0;", "which is in no buffer"),
    ],
)
def test_faulty_printf_is_reported(text: str, body: str, message: str) -> None:
    with pytest.raises(_C.EmulatorError, match=message) as error:
        launch(printing(text, body))
    assert "warp 0 lane 0 (thread 0), kernels/example.cuh:" in str(error.value)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("vprintf", "helper", "calls are not modelled, except of printf"),
        ("(param0, param1)", "(param0)", "calls are not modelled"),
        ("call.uni", "call.other", "calls are not modelled"),
        ("(param0, param1)", "(param0, param9)", "expected a call's parameter, got param9"),
        ("(retval0), vprintf, (param0, param1)", "helper", "calls are not modelled"),
    ],
)
def test_other_calls_are_refused(old: str, new: str, message: str) -> None:
    module = printing("text")
    assert old in module.split(FUNCTION)[1]
    head, body = module.split(FUNCTION)
    with pytest.raises(_C.EmulatorError, match=rf"PTX line \d+, `call.*{message}"):
        launch(head + FUNCTION + body.replace(old, new))


def test_trap_names_its_threads() -> None:
    body = "setp.eq.u32 %p1, %thread, 37; @%p1 trap;"
    with pytest.raises(_C.EmulatorError, match=r"warp 1 lane 5 \(thread 37\), .*:1: executes trap"):
        run(body, block=64)
    out = scratch("out", np.zeros(1, np.uint32))
    run("setp.eq.u32 %p1, %thread, 64; @%p1 trap;", out, block=64)  # no such thread


def test_parameters_of_calls_do_not_overlap_variables() -> None:
    """Two calls share their parameters' places, which no variable overlaps."""
    body = """.local .align 8 .b8 own[8]; st.local.u32 [own+4], %thread;
    { .param .b32 param0; st.param.b32 [param0], 7; ld.param.b32 %r1, [param0]; }
    { .param .b64 param0; st.param.b64 [param0], 5; ld.param.b64 %rd2, [param0]; }
    ld.local.u32 %r2, [own+4]; cvt.u32.u64 %r3, %rd2;
    add.u32 %r4, %r1, %r2; add.u32 %r4, %r4, %r3;"""
    out = result("out", 32)
    run(body + address("%rd1", "out", "%thread", 4) + "st.global.u32 [%rd1], %r4;", out)
    np.testing.assert_array_equal(out.array, np.arange(32) + 12)
