"""Faults planted in the real kernels, to see whether the emulator finds them.

A mutant is an edit of the PTX that nvcc made of csrc/kernels/. Instructions are found by their
opcode and by the source line that they come from, which in turn is found by its text: the edits
survive other compilers and changes elsewhere. An edit that finds nothing to change is an error.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from support.kernel_reference import factors, numpy_dtype

from vgg_cuda import _C, reference

CSRC = Path(__file__).parents[1] / "csrc"
WRONG = "wrong numbers"
"""No error, but a result beyond the bound."""


# ---- Instructions of a kernel, and where they come from ----


def line_of(file: str, marker: str) -> int:
    """The number of the only line of csrc/``file`` that contains ``marker``, or else is it."""
    lines = (CSRC / file).read_text().splitlines()
    found = [i for i, line in enumerate(lines, 1) if marker in line]
    if len(found) != 1:
        found = [i for i, line in enumerate(lines, 1) if line.strip() == marker]
    assert len(found) == 1, f"{file} has {marker!r} in lines {found}"
    return found[0]


@dataclass
class Statement:
    """``places``: file and line of the instruction, of where that was inlined, and so on."""

    number: int
    opcode: str
    text: str
    places: list[tuple[str, int]]

    def comes_from(self, file: str, marker: str, lines: int = 1) -> bool:
        """From this line, or the ``lines`` from it on, through whatever was inlined there."""
        first = line_of(file, marker)
        return any(place == file and first <= line < first + lines for place, line in self.places)

    @property
    def operands(self) -> list[str]:
        """The text between commas outside of braces; a guard and the opcode are left out."""
        text = self.text.split(self.opcode, 1)[1].rstrip("; \t")
        return [part.strip() for part in re.findall(r"(?:\{[^}]*\}|\[[^]]*\]|[^,{\[])+", text)]


def entries(lines: list[str]) -> Iterator[tuple[str, int, int]]:
    """Every kernel's name, the number of its first line and that of the one with its last brace."""
    name, first, depth = "", 0, 0
    for number, line in enumerate(lines):
        if found := ".entry" in line and re.match(r"\s*(?:\.visible )?\.entry (\w+)\(", line):
            name, first = found[1], number
        depth += line.count("{") - line.count("}")
        if name and depth == 0 and "}" in line:
            yield name, first, number
            name = ""


class Text:
    """One kernel of a module, whose stages have ``stage_bytes``; the others are left out."""

    def __init__(self, ptx: str, kernel: str, stage_bytes: int) -> None:
        self.lines = ptx.splitlines()
        for name, first, last in reversed(list(entries(self.lines))):
            if name != kernel:
                del self.lines[first : last + 1]
        [(_, self.first, self.last)] = entries(self.lines)
        files = re.findall(r'^\s*\.file\s+(\d+) "([^"]*)"', ptx, re.MULTILINE)
        self.files = {int(n): path.split("csrc/")[-1] for n, path in files}
        self.kernel = kernel
        self.stage_bytes = stage_bytes
        self.edits = 0

    def __iter__(self) -> Iterator[Statement]:
        chains: dict[tuple[int, ...], list[tuple[str, int]]] = {}
        places: list[tuple[str, int]] = []
        for number in range(self.first, self.last):
            line = self.lines[number].strip()
            words = line.replace(",", " ").split()
            if not words or words[0] == "//":
                continue
            if words[0] == ".loc":
                at = tuple(map(int, words[1:4]))
                if at[1] == 0:  # the compiler's own: belongs to the line before
                    continue
                places = [(self.files[at[0]], at[1])]
                if "inlined_at" in words:
                    outer = words.index("inlined_at")
                    places = places + chains.get(tuple(map(int, words[outer + 1 : outer + 4])), [])
                chains[at] = places
                continue
            opcode = words[1] if words[0].startswith("@") and len(words) > 1 else words[0]
            yield Statement(number, opcode.rstrip(";"), line, places)

    def find(
        self, opcode: str, file: str | None = None, marker: str = "", lines: int = 1
    ) -> list[Statement]:
        """Instructions that begin with ``opcode``, of that source line if one is given."""
        found = [s for s in self if s.opcode.startswith(opcode)]
        if file is not None:
            found = [s for s in found if s.comes_from(file, marker, lines)]
        assert found, f"{self.kernel} has no {opcode} from {file}: {marker}"
        return found

    def replace(self, statement: Statement, text: str) -> None:
        assert text != statement.text, f"{statement.text} stays as it is"
        self.lines[statement.number] = text
        self.edits += 1

    def delete(self, *where: Any, **more: Any) -> None:
        for statement in self.find(*where, **more):
            self.replace(statement, "")

    def append(self, statement: Statement, text: str) -> None:
        self.replace(statement, f"{statement.text} {text}")

    def text(self) -> str:
        return "\n".join(self.lines) + "\n"


# ---- What the mutants run ----


@dataclass(frozen=True)
class Case:
    """One operation at one size, and its result in float64 with a bound of the rounding errors."""

    op: Literal["conv3x3", "linear", "softmax", "convert", "fused_conv1_block", "adaptive_maxpool"]
    shape: tuple[int, ...]  # N, H, W, C, K or grid; N, C, K; rows, n; N, rows, columns
    dtype: str = "float16"
    pool: bool = False
    relu: bool = True
    arch: str = "sm_80"
    sm_count: int = 0  # of sm_90a; 0: as many as the architecture has
    variant: str | None = None  # of a convolution's kernel; None: the plan chooses

    @property
    def id(self) -> str:
        size = "x".join(map(str, self.shape))
        sms = f"-{self.sm_count}sm" if self.sm_count else ""
        variant = f"-{self.variant}" if self.variant else ""
        return f"{self.op}-{size}-{self.dtype}-{self.arch}{sms}{variant}" + "-pool" * self.pool

    @property
    def plan(self) -> _C.Plan:
        arch = _C.device_arch(9, 0, self.sm_count) if self.sm_count else _C.arch(self.arch)
        if self.op == "convert":
            return _C.plan_convert(*self.shape, x_dtype="float32", dtype=self.dtype, arch=arch)
        options: dict[str, Any] = {"dtype": self.dtype, "aligned": True, "arch": arch}
        if self.op == "softmax":
            return _C.plan_softmax(*self.shape, **options)
        if self.op == "adaptive_maxpool":
            return _C.plan_adaptive_maxpool(*self.shape, **options)
        options["relu"] = self.relu
        if self.op == "linear":
            return _C.plan_linear(*self.shape, **options)
        x_dtype = numpy_dtype(self.dtype).name
        options |= {"x_dtype": x_dtype, "pool": self.pool, "variant": self.variant}
        return _C.plan_conv3x3(*self.shape, **options)

    @property
    def x(self) -> np.ndarray:
        shape = self.shape if self.op in ("softmax", "convert") else self.shape[:-1]
        dtype = "float32" if self.op == "convert" else self.dtype
        x = np.random.default_rng(0).standard_normal(shape)
        if self.op == "softmax":
            x += 3 * np.linspace(0, 1, self.shape[-1])  # the maximum is in the last warp
        if self.op == "adaptive_maxpool":
            x -= 9  # maxima are negative
        return x.astype(numpy_dtype(dtype))

    @property
    def weights(self) -> tuple[np.ndarray, np.ndarray]:
        """[K, GEMM_K] and bias."""
        rng = np.random.default_rng(1)
        taps = 9 if self.op == "conv3x3" else 1
        w = rng.standard_normal((self.shape[-1], taps * self.shape[-2])) * 0.1
        w = factors(w.astype(numpy_dtype(self.dtype)), self.dtype)
        return w, rng.standard_normal(self.shape[-1]).astype(np.float32)

    def run(self, executor: _C.Emulator) -> np.ndarray:
        plan, x = self.plan, self.x
        if self.op in ("softmax", "convert"):
            shape = self.shape if self.op == "softmax" else (*self.shape[:1], *self.shape[:0:-1])
            out = np.empty(shape, self.dtype)
            getattr(_C, self.op)(plan, x, out, executor)
            return out
        if self.op == "adaptive_maxpool":
            out = np.empty(self.expected[0].shape, self.dtype)
            _C.adaptive_maxpool(plan, x, out, executor)
            return out
        w, bias = self.weights
        K, columns = w.shape
        packed = np.zeros((K, _C.packed_columns(columns, self.dtype)), w.dtype)
        packed[:, :columns] = w
        packed_bias = np.zeros(_C.packed_bias(K), np.float32)
        packed_bias[:K] = bias
        workspace = np.empty(plan.workspace_bytes, np.uint8) if plan.workspace_bytes else None
        out = np.empty(self.expected[0].shape, w.dtype)
        getattr(_C, self.op)(plan, x, packed, packed_bias, out, workspace, executor)
        return out

    @cached_property
    def expected(self) -> tuple[np.ndarray, np.ndarray]:
        x = self.x.astype(np.float64)
        unit = {"float16": 2.0**-11}.get(self.dtype, 2.0**-24)
        if self.op == "convert":
            y = x.transpose(0, 2, 1)
            return y, unit * np.abs(y)
        if self.op == "softmax":
            y = np.exp(x - x.max(axis=1, keepdims=True))
            y /= y.sum(axis=1, keepdims=True)
            return y, (unit + 2.0**-24 * (self.shape[1] + 16)) * y + 2.0**-25
        if self.op == "adaptive_maxpool":
            y = reference.adaptive_maxpool(x, self.shape[-1])
            return y, np.zeros_like(y)
        w, bias = (array.astype(np.float64) for array in self.weights)
        x = factors(self.x, self.dtype).astype(np.float64)
        rows = x if self.op == "linear" else _im2col(x)
        y = rows @ w.T
        size = (w.shape[1] + 2) * 2.0**-24 * (np.abs(rows) @ np.abs(w).T + np.abs(bias))
        if self.pool:
            y, size = _pooled(y), _pooled(size)
        y = y + bias
        y = np.maximum(y, 0) if self.relu else y
        return y, size + unit * np.abs(y) + 2.0**-25

    def is_right(self, y: np.ndarray) -> bool:
        expected, bound = self.expected
        return bool((np.abs(y.astype(np.float64) - expected) <= bound).all())  # false for NaN


def _im2col(x: np.ndarray) -> np.ndarray:
    _, H, W, _ = x.shape
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    taps = [padded[:, r : r + H, s : s + W] for r in range(3) for s in range(3)]
    return np.concatenate(taps, axis=-1)


def _pooled(y: np.ndarray) -> np.ndarray:
    N, H, W, K = y.shape
    return y[:, : H // 2 * 2, : W // 2 * 2].reshape(N, H // 2, 2, W // 2, 2, K).max(axis=(2, 4))


CONV = Case("conv3x3", (1, 8, 8, 64, 64))  # nine steps, one block
RAGGED = Case("conv3x3", (1, 7, 5, 16, 72))  # rows and channels beyond the matrix, in two tiles
POOL = Case("conv3x3", (1, 8, 8, 16, 64), pool=True)
GATHER = Case("conv3x3", (1, 8, 8, 5, 64))
FLOATS = Case("conv3x3", (1, 8, 8, 16, 64), "float32")
FIRST = Case("conv3x3", (1, 8, 8, 3, 64))
SPLIT = Case("linear", (2, 2048, 64))
TF32 = Case("conv3x3", (1, 8, 8, 16, 64), "tf32")
FIRST_TF32 = Case("conv3x3", (1, 8, 8, 3, 64), "tf32")
SOFTMAX = Case("softmax", (2, 1000))
CONVERT = Case("convert", (1, 40, 70))
BINS = Case("adaptive_maxpool", (1, 9, 5, 40, 4))  # 80 packs, a block of 128 threads


# ---- The faults ----

Edit = Callable[[Text], None]

GEMM, TILE = "kernels/sm80/gemm.cuh", "kernels/sm80/tile.cuh"
LOADERS, PRODUCTS = "kernels/sm80/loaders.cuh", "kernels/sm80/products.cuh"
EPILOGUE, FIRST_CUH = "kernels/sm80/epilogue.cuh", "kernels/sm80/first.cuh"
REDUCE, SOFTMAX_CU = "kernels/sm80/reduce.cu", "kernels/smxx/softmax.cu"
CONVERT_CU, CP_ASYNC = "kernels/smxx/convert.cu", "ptx/cp_async.cuh"
BINS_CUH, MAXPOOL_CU = "kernels/smxx/bins.cuh", "kernels/smxx/adaptive_maxpool.cu"

MAIN_BARRIER = (GEMM, "__syncthreads();  // everybody's have")
MAIN_WAIT = (GEMM, "ptx::cp_async_wait<STAGES - 2>();")
MAIN_COMMIT = (GEMM, "ptx::cp_async_commit();")
FIRST_COMMIT = (GEMM, "ptx::cp_async_commit();  // an empty group")
NEXT_STAGE = (GEMM, "multiplied = multiplied + STAGE_BYTES == STAGES * STAGE_BYTES")


def deletes(opcode: str, file: str, marker: str, lines: int = 1) -> Edit:
    return lambda text: text.delete(opcode, file, marker, lines)


def waits(change: int) -> Edit:
    """The main loop's wait leaves ``change`` more groups unfinished."""

    def edit(text: Text) -> None:
        for wait in text.find("cp.async.wait_group", *MAIN_WAIT):
            pending = int(wait.operands[0]) + change
            text.replace(wait, f"cp.async.wait_group {max(pending, 0)};")

    return edit


def ring_wraps(change: int) -> Edit:
    """After ``change`` stages more."""

    def edit(text: Text) -> None:
        for compare in text.find("setp.", *NEXT_STAGE):
            *_, last = compare.operands
            changed = int(last) + change * text.stage_bytes
            text.replace(compare, compare.text.replace(last, str(changed)))

    return edit


def refill_too_early(text: Text) -> None:
    """The stage that is multiplied next is filled, and not the one that was multiplied before."""
    pending = int(text.find("cp.async.wait_group", *MAIN_WAIT)[0].operands[0])
    last = str((pending + 1) * text.stage_bytes)
    starts = [s for s in text.find("mov.") if s.operands[-1] == last]
    assert len(starts) == 1, starts
    changed = str(pending * text.stage_bytes)
    text.replace(starts[0], starts[0].text.replace(last, changed))


def copies_everything(text: Text) -> None:
    """Source sizes of 16 bytes, whether inside or not."""
    for choice in text.find("selp.", CP_ASYNC, "const int source_bytes = valid ? 16 : 0;"):
        text.replace(choice, f"mov.b32 {choice.operands[0]}, 16;")


def maxima_of_zero(text: Text) -> None:
    """What maxima begin with: zero, and not less than every number."""
    for constant in text.find("mov.f32", MAXPOOL_CU, "max.e[k] = from_float<T>(-CUDART_INF_F);"):
        text.replace(constant, constant.text.replace("0fFF800000", "0f00000000"))


def bins_without_their_last_pixel(text: Text) -> None:
    """Where the next bin has it, too: ends are rounded down."""
    for end in text.find("add.s32", BINS_CUH, "end(divide((i + 1) * length - 1, grid) + 1) {}"):
        if end.operands[-1] == "-1":
            text.replace(end, end.text.replace("-1", "-4"))  # grid - 1 less


def without_swizzle(operand: str) -> Edit:
    def edit(text: Text) -> None:
        found = text.find("xor.b32", TILE, "((chunk ^ (row * ROW_BYTES / 128 % ROW_CHUNKS)) * 16)")
        found = [s for s in found if s.comes_from(PRODUCTS, f"{operand}_[k] = ptx::kept(", lines=2)]
        assert found
        for xor in found:
            text.replace(xor, f"mov.b32 {xor.operands[0]}, {xor.operands[1]};")

    return edit


def wrong_bias(text: Text) -> None:
    """The first four channels of a thread have the bias of the last four."""
    marker = "channel < p.K ? smxx::load<4>(p.bias + channel + e)"
    for load in text.find("ld.global", EPILOGUE, marker):
        address = load.operands[1]
        if "+" not in address:
            text.replace(load, load.text.replace(address, address.replace("]", "+16]")))


def without_relu(text: Text) -> None:
    for most in text.find("max.NaN.f32", EPILOGUE, "v[e] = ptx::max_nan(v[e] + bias[e], least)"):
        text.replace(most, f"mov.f32 {most.operands[0]}, {most.operands[1]};")


def pools_the_wrong_lane(text: Text) -> None:
    for shuffle in text.find("shfl.sync.bfly", PRODUCTS, "__shfl_xor_sync(0xffffffffu, right()"):
        to, value, _, *rest = shuffle.operands
        text.replace(shuffle, f"{shuffle.opcode} {', '.join([to, value, '8', *rest])};")


def stores_without_a_test(text: Text) -> None:
    """As if both were true."""
    line = line_of(EPILOGUE, "if (row < rows && channel < p.K) {")
    for branch in text.find("bra"):
        if branch.text.startswith("@") and branch.places[:1] == [(EPILOGUE, line)]:
            text.replace(branch, "")


def one_split_less(text: Text) -> None:
    for load in text.find("ld.param.u32", REDUCE, "sum_of_splits(const ReduceParams& p", lines=8):
        text.append(load, f"add.s32 {load.operands[0]}, {load.operands[0]}, -1;")


def splits_write_to_the_same_place(text: Text) -> None:
    """Their offset is 0."""
    for product in text.find("mul.", EPILOGUE, "float* partial = p.partial + "):
        text.replace(product, f"mov.b64 {product.operands[0]}, 0;")


def swaps_operands(text: Text) -> None:
    """Rows 0-7 and 8-15 of A."""
    for product in text.find("mma.sync"):
        a = product.operands[1]
        first, second, *rest = (part.strip() for part in a.strip("{}").split(","))
        swapped = "{" + ", ".join([second, first, *rest]) + "}"
        text.replace(product, product.text.replace(a, swapped))


def swaps_halves_of_columns(text: Text) -> None:
    """The first and the last columns of A, of rows 8-15."""
    for product in text.find("mma.sync"):
        a = product.operands[1]
        first, second, third, last = (part.strip() for part in a.strip("{}").split(","))
        text.replace(product, product.text.replace(a, f"{{{first}, {last}, {third}, {second}}}"))


def does_not_round(text: Text) -> None:
    for rounding in text.find("cvt.rna.tf32.f32", "ptx/mma.cuh", "cvt.rna.tf32.f32"):
        text.replace(rounding, f"mov.b32 {', '.join(rounding.operands)};")


def transposes(text: Text) -> None:
    for load in text.find("ldmatrix"):
        text.replace(load, load.text.replace(".shared", ".trans.shared"))


def next_tap(text: Text) -> None:
    """The columns outside of the image are those of the filter's next tap."""
    for mask in text.find("or.b32", LOADERS, "const uint32_t columns =", lines=2):
        text.append(mask, f"shl.b32 {mask.operands[0]}, {mask.operands[0]}, 1;")


def without_the_last_sums(text: Text) -> None:
    for add in text.find("add.f32", GEMM, "product.add_partial_sums();  // what the last few"):
        a, b = add.operands[1:]
        # One of them is the sum so far: the one that is not what was just multiplied.
        text.replace(add, f"mov.f32 {add.operands[0]}, {_older(text, a, b)};")


def _older(text: Text, a: str, b: str) -> str:
    """Which of two registers is not written by an fma."""
    products = {s.operands[0] for s in text.find("fma.rn.f32")}
    return b if a in products else a


@dataclass(frozen=True)
class Mutant:
    """``found``: what the errors may say, or WRONG; ``only_races``: by the race detector alone."""

    name: str
    module: str
    case: Case
    edit: Edit
    found: tuple[str, ...]
    launch: int = 0  # which of the plan's launches is edited
    only_races: bool = False

    @property
    def kernel(self) -> str:
        name: str = self.case.plan.as_dict()["launches"][self.launch]["kernel"]
        return name

    def text(self) -> str:
        plan = self.case.plan.as_dict()
        stages = plan["tiling"].get("stages") or 1
        stage_bytes = plan["launches"][self.launch]["smem_bytes"] // stages
        text = Text(_C.emulator_modules()[self.module], self.kernel, stage_bytes)
        self.edit(text)
        assert text.edits, f"{self.name}: nothing was changed"
        return text.text()


F16, F32, GEMM_TF32 = "sm80/gemm_f16", "sm80/gemm_f32", "sm80/gemm_tf32"
FLIGHT = "by a cp.async that has not been waited for"
NO_BARRIER = "without a barrier in between"
NO_SYNCWARP = "without a __syncwarp or a barrier in between"
ANY_RACE = (FLIGHT, NO_BARRIER, NO_SYNCWARP, "which was never written")
OUTSIDE = ("past its", "before its", "which is in no buffer")
AGAIN = "which was already written"

MUTANTS = [
    Mutant(
        "main-loop-without-its-barrier", F16, CONV, deletes("bar.sync", *MAIN_BARRIER), ANY_RACE
    ),
    Mutant(
        "main-loop-without-its-barrier-f32",
        F32,
        FLOATS,
        deletes("bar.sync", *MAIN_BARRIER),
        ANY_RACE,
    ),
    Mutant(
        "gathered-rows-without-the-barrier",
        F16,
        GATHER,
        deletes("bar.sync", *MAIN_BARRIER),
        ANY_RACE,
    ),
    Mutant("waits-for-one-group-too-few", F16, CONV, waits(1), (FLIGHT,)),
    Mutant("does-not-wait", F16, CONV, deletes("cp.async.wait_group", *MAIN_WAIT), (FLIGHT,)),
    Mutant("does-not-commit", F16, CONV, deletes("cp.async.commit_group", *MAIN_COMMIT), (FLIGHT,)),
    Mutant(
        "does-not-commit-at-first",
        F16,
        CONV,
        deletes("cp.async.commit_group", *FIRST_COMMIT),
        (FLIGHT,),
    ),
    Mutant("refills-one-step-too-early", F16, CONV, refill_too_early, (*ANY_RACE, WRONG)),
    Mutant("ring-wraps-late", F16, CONV, ring_wraps(1), ("outside the block's", FLIGHT)),
    Mutant("ring-wraps-early", F16, CONV, ring_wraps(-1), (*ANY_RACE, WRONG)),
    Mutant("copies-from-outside-the-image", F16, CONV, copies_everything, OUTSIDE),
    Mutant("a-without-swizzle", F16, CONV, without_swizzle("a"), (WRONG,)),
    Mutant("b-without-swizzle", F16, CONV, without_swizzle("b"), (WRONG,)),
    Mutant("bias-of-another-channel", F16, CONV, wrong_bias, (WRONG, *OUTSIDE)),
    Mutant("without-relu", F16, CONV, without_relu, (WRONG,)),
    Mutant("pools-the-wrong-lane", F16, POOL, pools_the_wrong_lane, (WRONG,)),
    Mutant(
        "writes-rows-beyond-the-last",
        F16,
        Case("conv3x3", (1, 7, 5, 16, 64)),
        stores_without_a_test,
        OUTSIDE,
    ),
    Mutant(
        "writes-channels-beyond-the-last",
        F16,
        Case("conv3x3", (1, 8, 8, 16, 72)),
        stores_without_a_test,
        (AGAIN, *OUTSIDE),
    ),
    Mutant("operands-swapped", F16, CONV, swaps_operands, (WRONG,)),
    Mutant("columns-swapped-tf32", GEMM_TF32, TF32, swaps_halves_of_columns, (WRONG,)),
    Mutant("does-not-round-x", GEMM_TF32, TF32, does_not_round, (WRONG,)),
    Mutant("first-layer-does-not-round-x", "sm80/first", FIRST_TF32, does_not_round, (WRONG,)),
    Mutant("ldmatrix-transposes", F16, CONV, transposes, (WRONG,)),
    Mutant("padding-of-the-next-tap", F16, CONV, next_tap, (WRONG, *OUTSIDE)),
    Mutant("drops-the-last-partial-sums", F32, FLOATS, without_the_last_sums, (WRONG,)),
    Mutant("splits-write-to-the-same-place", F16, SPLIT, splits_write_to_the_same_place, (AGAIN,)),
    Mutant("drops-the-last-split", "sm80/reduce", SPLIT, one_split_less, (WRONG,), launch=1),
    Mutant(
        "first-layer-without-its-barrier",
        "sm80/first",
        FIRST,
        deletes("bar.sync", FIRST_CUH, "__syncthreads();  // both tiles are written"),
        ANY_RACE,
    ),
    Mutant(
        "first-layer-does-not-wait",
        "sm80/first",
        FIRST,
        deletes("cp.async.wait_group", FIRST_CUH, "ptx::cp_async_wait<0>();"),
        (FLIGHT,),
    ),
    Mutant(
        "softmax-without-its-barrier",
        "smxx/softmax",
        SOFTMAX,
        deletes("bar.sync", SOFTMAX_CU, "__syncthreads();  // every warp's value"),
        ANY_RACE,
    ),
    Mutant(
        "convert-without-its-barrier",
        "smxx/convert",
        CONVERT,
        deletes("bar.sync", CONVERT_CU, "__syncthreads();  // the tile is written"),
        ANY_RACE,
    ),
    Mutant(
        "pools-beyond-the-last-bin",
        "smxx/adaptive_maxpool",
        BINS,
        deletes("bra", BINS_CUH, "if (pack >= p.packs) return;"),
        OUTSIDE,
    ),
    Mutant("maxima-of-zero", "smxx/adaptive_maxpool", BINS, maxima_of_zero, (WRONG,)),
    Mutant(
        "bins-without-their-last-pixel",
        "smxx/adaptive_maxpool",
        BINS,
        bins_without_their_last_pixel,
        (WRONG,),
    ),
]


def twice(opcode: str, file: str, marker: str, what: str = "") -> Edit:
    def edit(text: Text) -> None:
        for statement in text.find(opcode, file, marker):
            text.append(statement, what or statement.text)

    return edit


HARMLESS = [
    Mutant("two-barriers", F16, CONV, twice("bar.sync", *MAIN_BARRIER), ()),
    Mutant("syncwarp", F16, CONV, twice("bar.sync", *MAIN_BARRIER, "bar.warp.sync -1;"), ()),
    Mutant("waits-for-everything", F16, CONV, waits(-9), ()),
    Mutant(
        "commits-twice-at-the-end",
        F16,
        CONV,
        twice(
            "cp.async.wait_group",
            GEMM,
            "ptx::cp_async_wait<0>();",
            "cp.async.commit_group; cp.async.wait_all;",
        ),
        (),
    ),
    Mutant(
        "barrier-in-softmax",
        "smxx/softmax",
        SOFTMAX,
        twice("bar.sync", SOFTMAX_CU, "__syncthreads();  // every warp's value"),
        (),
    ),
]
