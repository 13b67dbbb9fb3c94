"""Copies by tensor maps on the emulator, against NumPy; the rules of maps and of copies."""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass, field
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from support.cute_layouts import swizzled
from support.ptx_pairs import (
    Pair,
    assert_fails_in_every_order,
    assert_runs_in_every_order,
)
from support.ptx_programs import Buffer, every_order, read, result, run, scratch

from vgg_cuda import _C

pytestmark = pytest.mark.emulator

SHARED = 32 * 1024
ALIGN = 64


def with_map(pointers: int, tensor_map: bytes) -> dict[str, Any]:
    """Return launch options that pass the map after the pointers, at its alignment."""
    padding = -8 * pointers % ALIGN
    return {"extra_params": f".param .align {ALIGN} .b8 map[128]",
            "extra_bytes": bytes(padding) + tensor_map}  # fmt: skip


LOAD = f"""
.shared .align 1024 .b8 smem[{SHARED}]; .shared .align 8 .b8 bar[8];
mov.u32 %r1, smem; mov.u32 %r2, bar;
mov.b64 %rd10, map; cvta.param.u64 %rd10, %rd10; prefetch.tensormap [%rd10];
setp.ne.u32 %p1, %tid, 0; @%p1 bra READY;
mbarrier.init.shared::cta.b64 [%r2], 1; fence.mbarrier_init.release.cluster;
mbarrier.arrive.expect_tx.shared::cta.b64 _, [%r2], BYTES;
COPY
READY: bar.sync 0;
WAIT: mbarrier.try_wait.parity.shared::cta.b64 %p2, [%r2], 0; @!%p2 bra WAIT;
mad.lo.u32 %r3, %tid, 4, %r1; mad.wide.u32 %rd1, %tid, 4, %out; mov.u32 %r4, %tid;
DUMP: setp.ge.u32 %p3, %r4, WORDS; @%p3 bra END;
ld.shared.u32 %r5, [%r3]; st.global.u32 [%rd1], %r5;
add.u32 %r3, %r3, 128; add.s64 %rd1, %rd1, 128; add.u32 %r4, %r4, 32; bra DUMP;
END:"""
STORE = f"""
.shared .align 1024 .b8 smem[{SHARED}];
mov.u32 %r1, smem; mov.b64 %rd10, map; cvta.param.u64 %rd10, %rd10;
mad.lo.u32 %r3, %tid, 4, %r1; mad.wide.u32 %rd1, %tid, 4, %image; mov.u32 %r4, %tid;
FILL: setp.ge.u32 %p3, %r4, WORDS; @%p3 bra FILLED;
ld.global.u32 %r5, [%rd1]; st.shared.u32 [%r3], %r5;
add.u32 %r3, %r3, 128; add.s64 %rd1, %rd1, 128; add.u32 %r4, %r4, 32; bra FILL;
FILLED: fence.proxy.async.shared::cta; bar.sync 0;
setp.ne.u32 %p1, %tid, 0; @%p1 bra END;
COPY
cp.async.bulk.commit_group; cp.async.bulk.wait_group 0;
END:"""


@dataclass(frozen=True)
class Map:
    """A tensor map of a C-contiguous array; the contiguous dimension comes first."""

    dims: tuple[int, ...]
    box: tuple[int, ...]
    dtype: Any = np.float16
    swizzle: int = 0
    element_strides: tuple[int, ...] | None = None
    fill: str = "zero"
    im2col: tuple[Any, Any, int, int] | None = None

    def array(self) -> np.ndarray:
        count = int(np.prod(self.dims))
        return (np.arange(count) % 251 + 1).astype(self.dtype).reshape(self.dims[::-1])

    def encode(self, array: np.ndarray) -> bytes:
        return _C.emulator_tensor_map(
            array.ctypes.data,
            array.dtype.name,
            self.dims,
            array.strides[-2::-1],
            box=None if self.im2col else self.box,
            element_strides=self.element_strides,
            swizzle=self.swizzle,
            fill=self.fill,
            im2col=self.im2col,
        )

    def indices(self, at: tuple[int, ...], tap: tuple[int, ...] = ()) -> list[tuple[int, ...]]:
        """Return the elements of a box in the order of shared memory, by the map's dimensions."""
        if self.im2col is None:
            steps = (1, *(self.element_strides or (1,) * 5)[1:])
            ranges = [range(x, x + n, s) for x, n, s in zip(at, self.box, steps, strict=False)]
            return [index[::-1] for index in itertools.product(*ranges[::-1])]
        lower, upper, channels, pixels = self.im2col
        walks = [range(lo, dim + up, step) for lo, up, dim, step in
                 zip(lower, upper, self.dims[1:], (self.element_strides or (1,) * 5)[1:],
                     strict=False)]  # fmt: skip
        images = range(at[-1], at[-1] + pixels)
        base = [pixel[::-1] for pixel in itertools.product(images, *walks[::-1])]
        first = base.index(at[1:])
        return [
            (c, *(x + t for x, t in zip(pixel, (*tap, 0), strict=True)))
            for pixel in base[first : first + pixels]
            for c in range(at[0], at[0] + channels)
        ]

    def inside(self, index: tuple[int, ...]) -> bool:
        return all(0 <= i < n for i, n in zip(index, self.dims, strict=True))

    def bytes(self) -> int:
        at = tuple(self.im2col[0]) if self.im2col else ()
        start = (0, *at, 0) if self.im2col else (0,) * len(self.dims)
        return len(self.indices(start, (0,) * len(at))) * np.dtype(self.dtype).itemsize

    def places(self) -> np.ndarray:
        """Return the byte in shared memory of each element of the box."""
        size = np.dtype(self.dtype).itemsize
        bits = {0: 0, 32: 1, 64: 2, 128: 3}[self.swizzle]
        return swizzled(np.arange(0, self.bytes(), size), bits)


@dataclass(frozen=True)
class Case:
    map: Map
    at: tuple[int, ...]
    tap: tuple[int, ...] = ()
    options: dict[str, Any] = field(default_factory=dict)

    def coordinates(self) -> str:
        return "[%rd10, {" + ", ".join(map(str, self.at)) + "}]"

    def load(self, hint: str = "") -> dict[str, int]:
        array, size = self.map.array(), self.map.bytes()
        x = read("x", array)
        out = result("out", size, np.uint8)
        mode = ".im2col" if self.map.im2col else ""
        tap = ", {" + ", ".join(map(str, self.tap)) + "}" if self.map.im2col else ""
        copy = (
            f"cp.async.bulk.tensor.{len(self.at)}d.shared::cluster.global{mode}"
            f".mbarrier::complete_tx::bytes{hint} [%r1], {self.coordinates()}, [%r2]{tap}"
            + (", %rd11;" if hint else ";")
        )
        body = LOAD.replace("COPY", copy).replace("BYTES", str(size))
        body = body.replace("WORDS", str(size // 4))
        counters = run(body, x, out, **with_map(2, self.map.encode(x.array)), **self.options)
        indices = self.map.indices(self.at, self.tap)
        outside = np.nan if self.map.fill == "nan" else 0
        expected = np.array(
            [array[i[::-1]] if self.map.inside(i) else outside for i in indices], array.dtype
        )
        item = array.dtype.itemsize
        got = out.array.view(array.dtype)[self.map.places() // item]
        np.testing.assert_array_equal(got.astype(float), expected.astype(float))
        inside = item * sum(map(self.map.inside, indices))
        assert counters["bulk_load_bytes"] == inside
        assert counters["bulk_zero_bytes"] == size - inside
        assert counters["bulk_shared_bytes"] == size
        return counters

    def store(self) -> None:
        shape, dtype = self.map.dims[::-1], np.dtype(self.map.dtype)
        y = scratch("y", np.full(shape, 7, dtype))
        size = self.map.bytes()
        values = (np.arange(size // dtype.itemsize) % 199 + 1).astype(dtype)
        image = np.zeros(size // dtype.itemsize, dtype)
        image[self.map.places() // dtype.itemsize] = values
        copy = (
            f"cp.async.bulk.tensor.{len(self.at)}d.global.shared::cta.bulk_group "
            f"{self.coordinates()}, [%r1];"
        )
        body = STORE.replace("COPY", copy).replace("WORDS", str(size // 4))
        counters = run(
            body, y, read("image", image), **with_map(2, self.map.encode(y.array)), **self.options
        )
        expected = np.full(shape, 7, dtype)
        written = 0
        for index, value in zip(self.map.indices(self.at), values, strict=True):
            if self.map.inside(index):
                expected[index[::-1]] = value
                written += dtype.itemsize
        np.testing.assert_array_equal(y.array.astype(float), expected.astype(float))
        assert counters["bulk_store_bytes"] == written


TILED = {
    "1d": Case(Map((96,), (64,)), (16,)),
    "1d-past": Case(Map((88,), (64,)), (64,)),
    "1d-before": Case(Map((64,), (32,)), (-10,)),
    "2d": Case(Map((64, 20), (32, 8)), (8, 5)),
    "2d-corner": Case(Map((40, 9), (32, 8)), (-3, 6)),
    "3d": Case(Map((64, 6, 5), (64, 4, 3), swizzle=128), (0, -1, 3)),
    "4d-halo": Case(Map((64, 14, 9, 2), (64, 8, 6, 1), swizzle=128), (0, 7, -1, 1)),
    "4d-outside": Case(Map((64, 4, 4, 2), (64, 2, 2, 2), swizzle=128), (0, 90, -70, 1)),
    "5d": Case(Map((16, 3, 4, 3, 2), (16, 2, 3, 2, 2), swizzle=32), (0, 2, -1, 2, 1)),
    "swizzle-64": Case(Map((48, 16), (32, 16), swizzle=64), (16, 0)),
    "swizzle-32": Case(Map((48, 16), (16, 16), swizzle=32), (16, 0)),
    "narrow-row": Case(Map((64, 32), (32, 24), swizzle=128), (16, 5)),
    "float32": Case(Map((40, 10), (32, 8), np.float32, swizzle=128), (16, -2)),
    "uint8": Case(Map((144, 10), (128, 8), np.uint8, swizzle=128), (16, -2)),
    "float64": Case(Map((10, 10), (4, 8), np.float64), (7, 3)),
    "bfloat16": Case(Map((40, 10), (32, 8), ml_dtypes.bfloat16), (16, -2)),
}  # fmt: skip
LOADS = {
    **TILED,
    "element-strides": Case(Map((64, 20), (32, 7), element_strides=(1, 3)), (8, -2)),
    "nan": Case(Map((40, 9), (32, 8), fill="nan"), (16, 5)),
    "im2col-3d": Case(
        Map((64, 12, 3), (), swizzle=128, im2col=((-1,), (-1,), 64, 20)), (0, 4, 1), (2,)
    ),
    "im2col-4d": Case(
        Map((64, 7, 6, 3), (), swizzle=128, im2col=((-1, -1), (-1, -1), 32, 64)),
        (32, 3, 4, 1), (2, 1),
    ),
    "im2col-4d-beyond": Case(
        Map((64, 5, 5, 2), (), swizzle=128, im2col=((-1, -1), (-1, -1), 64, 100)),
        (0, -1, -1, 1), (0, 2),
    ),
    "im2col-strides": Case(
        Map((16, 8, 8, 2), (), element_strides=(1, 2, 2, 1), im2col=((0, 0), (0, 0), 16, 24)),
        (0, 4, 2, 0), (1, 0),
    ),
    "im2col-5d": Case(
        Map((16, 4, 3, 3, 2), (), im2col=((-1, 0, -1), (0, 0, 1), 16, 50)),
        (0, 2, 1, 0, 0), (1, 0, 1),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", LOADS)
def test_tensor_map_load(name: str) -> None:
    LOADS[name].load()


@pytest.mark.parametrize("name", TILED)
def test_tensor_map_store(name: str) -> None:
    TILED[name].store()


@every_order
@pytest.mark.parametrize("name", ["4d-halo", "im2col-4d"])
def test_tensor_map_copies_in_every_order(name: str, schedule: str, lazy: bool) -> None:
    case = LOADS[name]
    ordered = Case(case.map, case.at, case.tap, {"schedule": schedule, "lazy": lazy})
    ordered.load()
    if name in TILED:
        ordered.store()


def test_tensor_map_hints_and_prefetches() -> None:
    case = TILED["2d"]
    case.load(".L2::cache_hint")
    body = "mov.b64 %rd10, map; cvta.param.u64 %rd10, %rd10;\n"
    body += "cp.async.bulk.prefetch.tensor.2d.L2.global [%rd10, {0, 0}];"
    x = read("x", case.map.array())
    run(body, x, **with_map(1, case.map.encode(x.array)))


PREFETCH = """.shared .align 64 .b8 smem[128];
mov.b64 %rd10, map; cvta.param.u64 %rd11, %rd10; mov.b64 %rd12, smem; cvta.shared.u64 %rd12, %rd12;
"""


def prefetch(code: str) -> None:
    case = TILED["2d"]
    x = read("x", case.map.array())
    tensor_map = case.map.encode(x.array)
    copy = np.zeros(320, np.uint8)
    aligned = read("copy", copy[-copy.ctypes.data % ALIGN :][:256])
    aligned.array[:128] = np.frombuffer(tensor_map, np.uint8)
    run(PREFETCH + code, x, aligned, **with_map(2, tensor_map))


@pytest.mark.parametrize("code", ["tensormap [%rd11]", "param.tensormap [%rd10]",
                                  "param.tensormap [map]", "tensormap [%copy]",
                                  "const.tensormap [%copy]"])  # fmt: skip
def test_tensor_map_is_prefetched_from_every_space(code: str) -> None:
    prefetch(f"prefetch.{code};")


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("tensormap [%rd11+16]", "uses a tensor map at an address that is not a multiple of 64"),
        ("tensormap [%rd11+64]", "uses a tensor map outside the kernel's parameters"),
        ("tensormap [%rd11+-128]", "uses a tensor map outside the kernel's parameters"),
        ("tensormap [%rd11+-64]", "uses 128 bytes that are not a tensor map"),
        ("tensormap [%copy+128]", "uses 128 bytes that are not a tensor map"),
        ("tensormap [%copy+192]", "reads copy[256:272] past its 256 bytes"),
        ("tensormap [%rd12]", "uses a tensor map that is neither a parameter nor in global memory"),
        ("tensormap [%rd10]", "which is in no buffer"),
        ("local.tensormap [%rd10]", "unknown prefetch"),
        ("global.L2 [%x]", "unknown prefetch"),
    ],
)
def test_prefetch_of_anything_else_is_an_error(code: str, message: str) -> None:
    with pytest.raises(_C.EmulatorError, match=re.escape(message)):
        prefetch(f"prefetch.{code};")


# ---- Rules of maps ----

GOOD: dict[str, Any] = {"address": 4096, "dtype": "float16", "dims": (64, 8, 8, 2),
                        "strides": (128, 1024, 8192), "box": (64, 8, 8, 1)}  # fmt: skip
IM2COL = ((-1, -1), (-1, -1), 64, 128)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"address": 4104}, "address: expected a multiple of 16, got 4104"),
        ({"address": 0}, "address: expected a multiple of 16, got 0"),
        ({"dims": ()}, "rank: expected 1 to 5, got 0"),
        ({"dims": (8,) * 6}, "dims: expected at most 5 numbers, got 6"),
        ({"dims": (64, 0, 8, 2)}, "dims[1]: expected 1 to 4294967296, got 0"),
        ({"dims": (64, 2**32 + 1, 8, 2)}, "dims[1]: expected 1 to 4294967296"),
        ({"strides": (136, 1024, 8192)}, "strides[1]: expected a multiple of 16 bytes below 2^40"),
        ({"strides": (128, 2**40, 8192)}, "strides[2]: expected a multiple of 16 bytes"),
        ({"strides": (128, 1024, 0)}, "strides[3]: expected a multiple of 16 bytes"),
        ({"box": (64, 257, 8, 1)}, "box[1]: expected 1 to 256, got 257"),
        ({"box": (64, 8, 0, 1)}, "box[2]: expected 1 to 256, got 0"),
        ({"box": (60, 8, 8, 1)}, "inner bytes of the box: expected a multiple of 16, got 120"),
        ({"swizzle": 64}, "inner bytes of the box: expected at most the 64 of the swizzle"),
        ({"swizzle": 16}, "swizzle: expected one of 0, 128, 32, 64, got '16'"),
        ({"element_strides": (1, 9, 1, 1)}, "element_strides[1]: expected 1 to 8, got 9"),
        ({"element_strides": (1, 0, 1, 1)}, "element_strides[1]: expected 1 to 8, got 0"),
        ({"dtype": "float8"}, "dtype: expected one of"),
        ({"dtype": "uint16", "fill": "nan"}, "fill: expected zero for integer types, got nan"),
        ({"im2col": ((-129, 0), (0, 0), 64, 64)}, "lower_corner[0]: expected -128 to 127"),
        ({"im2col": ((0, 0), (0, 128), 64, 64)}, "upper_corner[1]: expected -128 to 127"),
        ({"im2col": ((0, 0), (-8, 0), 64, 64)}, "upper_corner[0]: expected a non-empty box"),
        ({"im2col": ((0, 0), (0, 0), 257, 64)}, "channels_per_pixel: expected 1 to 256, got 257"),
        ({"im2col": ((0, 0), (0, 0), 64, 1025)}, "pixels_per_column: expected 1 to 1024, got 1025"),
        ({"im2col": IM2COL, "dims": (64, 8), "strides": (128,)}, "rank: expected 3 to 5, got 2"),
    ],
    ids=lambda value: re.sub(r"\W+", "-", str(value))[:40],
)  # fmt: skip
def test_tensor_map_follows_driver_rules(changes: dict[str, Any], message: str) -> None:
    assert len(_C.emulator_tensor_map(**GOOD)) == 128
    with pytest.raises(ValueError, match=re.escape(message)):
        _C.emulator_tensor_map(**{**GOOD, **changes})


# ---- Rules of copies ----

CASE = TILED["2d"]
COPY = "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes "
RIGHT = COPY + "[%r1], [%rd10, {8, 5}], [%r2];"
X = read("x", CASE.map.array())
BODY = LOAD.replace("COPY", "FAULT // HERE").replace("BYTES", "512").replace("WORDS", "128")


def buffers() -> list[Buffer]:
    return [X, result("out", 512, np.uint8)]


def fault(name: str, text: str, *messages: str) -> Pair:
    launch = with_map(2, CASE.map.encode(X.array))
    return Pair(name, BODY, text, RIGHT, messages, buffers, launch)


FAULTS = [
    fault("shared-alignment", RIGHT.replace("[%r1]", "[%r1+64]"),
          "@ 0 0 copies to shared memory bytes 64 to 576, which is misaligned: the address must be "
          "a multiple of 128"),
    fault("shared-bounds", RIGHT.replace("[%r1]", f"[%r1+{SHARED - 256}]"),
          f"@ 0 0 copies to shared memory bytes {SHARED - 256} to {SHARED + 256}, outside "
          f"the block's {SHARED + 8}"),
    fault("dimensions", RIGHT.replace(".2d", ".3d").replace("{8, 5}", "{8, 5, 0}"),
          "@ 0 0 copies in 3 dimensions, but its tensor map has 2"),
    fault("no-map", "add.s64 %rd10, %rd10, -64; " + RIGHT,
          "@ 0 0 uses 128 bytes that are not a tensor map encoded for the emulator"),
    fault("map-alignment", "add.s64 %rd10, %rd10, 16; " + RIGHT,
          "@ 0 0 uses a tensor map at an address that is not a multiple of 64"),
    fault("map-outside", "add.s64 %rd10, %rd10, 64; " + RIGHT,
          "@ 0 0 uses a tensor map outside the kernel's parameters"),
    fault("uninitialised-mbarrier", RIGHT.replace("[%r2]", "[%r1+1024]"),
          "@ 0 0 uses an mbarrier at byte 1024 that is not initialised"),
    fault("half-a-box", "mbarrier.expect_tx.relaxed.cta.shared::cta.b64 [%r2], 16;" + RIGHT,
          "block (0,0,0): deadlock: * at the mbarrier at byte * (phase 0: 1 of 1 arrivals, 16 "
          "bytes missing), kernels/example.cuh:*"),
]  # fmt: skip


@pytest.mark.parametrize("pair", FAULTS, ids=lambda pair: pair.name)
def test_fault_is_found(pair: Pair) -> None:
    assert_fails_in_every_order(pair)
    assert_runs_in_every_order(pair)


def test_tensor_map_beyond_its_buffer() -> None:
    x = read("x", CASE.map.array())
    larger = Map((64, 21), (32, 8))
    tensor_map = _C.emulator_tensor_map(x.array.ctypes.data, "float16", larger.dims, (128,),
                                        box=larger.box)  # fmt: skip
    body = BODY.replace("FAULT", RIGHT.replace("{8, 5}", "{8, 15}"))
    with pytest.raises(_C.EmulatorError, match=r"reads x\[2576:2592\] past its 2560 bytes"):
        run(body, x, result("out", 512, np.uint8), **with_map(2, tensor_map))


def test_im2col_starts_inside_its_bounds() -> None:
    case = LOADS["im2col-4d"]
    x = read("x", case.map.array())
    copy = COPY.replace(".2d", ".4d").replace(".global", ".global.im2col")
    copy += "[%r1], [%rd10, {0, 6, 0, 0}], [%r2], {0, 0};"
    body = LOAD.replace("COPY", copy).replace("BYTES", "4096").replace("WORDS", "0")
    launch = with_map(2, case.map.encode(x.array))
    with pytest.raises(
        _C.EmulatorError, match=r"starts at pixel 6 of dimension 1: expected a base pixel"
    ):
        run(body, x, scratch("out", np.zeros(1)), **launch)


@pytest.mark.parametrize(
    "name",
    [
        "cp.reduce.async.bulk.tensor.1d.global.shared::cta.add.bulk_group",
        "cp.async.bulk.tensor.2d.shared::cluster.global.tile::gather4.mbarrier::complete_tx::bytes",
        "cp.async.bulk.tensor.4d.global.shared::cta.im2col_no_offs.bulk_group",
    ],
)
def test_unmodelled_instruction_is_refused(name: str) -> None:
    with pytest.raises(_C.EmulatorError, match=r"example\.cuh:1"):
        run(name + " [%rd1, {0}], [%r1];")
