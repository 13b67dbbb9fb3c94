"""Types of the compiled module; csrc/bindings/ is its source."""

from collections.abc import Sequence
from typing import Any, TypedDict

class Device(TypedDict):
    """One GPU."""

    index: int
    name: str
    compute_capability: tuple[int, int]
    memory_bytes: int
    sm_count: int

class DeviceInfo(TypedDict):
    """The GPUs of a machine; ``reason`` says why there is none that can be used."""

    available: bool
    reason: str | None
    driver: str | None
    """Newest CUDA version that the driver supports, ``"13.0"``."""
    devices: list[Device]

def commit() -> str: ...
def built_with_cuda() -> bool: ...
def built_with_emulator() -> bool: ...
def cuda_version() -> str | None: ...
def architectures() -> list[str]: ...
def device_info() -> DeviceInfo: ...
def kernels() -> list[str]:
    """Names of all kernels in this build; plans name some of them."""

# ---- Plans: what is to be launched, decided on the host alone ----

class Arch:
    """What a plan knows of a GPU."""

    name: str
    sm_count: int
    smem_per_block_bytes: int
    smem_per_sm_bytes: int
    threads_per_sm: int

def arch(name: str) -> Arch:
    """Of "sm_80" ...; ValueError, naming the known ones, for another."""

def arch_names() -> list[str]: ...
def device_arch(major: int, minor: int, sm_count: int) -> Arch:
    """Of a device; ValueError for one older than sm_80."""

def can_run(arch: Arch, major: int, minor: int) -> bool:
    """May a device of that compute capability run what is planned for ``arch``?"""

class Plan:
    """What to launch for one operation on arrays of one shape. Immutable; may be used again."""

    op: str
    arch: str
    kernel: str
    """The first launch's, "conv3x3_f16_m128n128_pool"."""
    workspace_bytes: int
    """Scratch memory that the operation must be given."""
    macs: int
    """Useful multiply-adds."""
    def as_dict(self) -> dict[str, Any]:
        """op, arch, macs, workspace_bytes, launches (list of dicts with kernel, grid, block,
        smem_bytes, cluster, early) and tiling (dict: gemm_m, gemm_n, gemm_k, block_m, block_n,
        block_k, stages, split_k, steps, partial_sum, walk); and what they are designed to do:
        tiles of the first launch, issued_macs (useless ones included), load_bytes and
        store_bytes (of SMs, a multicast once a cluster). Plain bools, ints, strings, lists, tuples.
        """

# Sizes are >= 1; ValueError, in the operation's name, where a matrix product or a grid does not
# fit an int32. ``aligned``: do x and out start at a multiple of 16 bytes? dtypes are "float32",
# "float16", "bfloat16", for x of a first convolution (C == 3) and of convert also "uint8", for
# ``dtype`` of conv3x3 and linear also "tf32": then x, w and out are float32, and w is rounded to
# eleven binary digits, ties away from zero. TypeError for another.

def plan_conv3x3(
    N: int,
    H: int,
    W: int,
    C: int,
    K: int,
    *,
    dtype: str,
    x_dtype: str,
    relu: bool,
    pool: bool,
    aligned: bool,
    arch: Arch,
    variant: str | None = None,
) -> Plan:
    """``variant``: the tile, "halo_m256n128_c2", one of ``conv3x3_variants``; ValueError, naming
    those, for another. None: the one whose estimated time is least.
    """

def conv3x3_variants(
    N: int,
    H: int,
    W: int,
    C: int,
    K: int,
    *,
    dtype: str,
    x_dtype: str,
    relu: bool,
    pool: bool,
    aligned: bool,
    arch: Arch,
) -> list[str]:
    """The variants that can be used; none for images (C == 3)."""

def plan_fused_conv1_block(
    N: int,
    H: int,
    W: int,
    K1: int,
    K2: int,
    *,
    dtype: str,
    x_dtype: str,
    aligned: bool,
    arch: Arch,
) -> Plan | None:
    """None where no kernel does both convolutions. ``aligned``: does out start at a multiple of
    16 bytes? The plan's ``first_tiling`` is the first convolution's.
    """

def plan_linear(
    N: int, C: int, K: int, *, dtype: str, relu: bool, aligned: bool, arch: Arch
) -> Plan: ...
def plan_maxpool2x2(
    N: int, H: int, W: int, C: int, *, dtype: str, aligned: bool, arch: Arch
) -> Plan: ...
def plan_avgpool(
    N: int, H: int, W: int, C: int, grid: int, *, dtype: str, aligned: bool, arch: Arch
) -> Plan: ...
def plan_adaptive_maxpool(
    N: int, H: int, W: int, C: int, grid: int, *, dtype: str, aligned: bool, arch: Arch
) -> Plan: ...
def plan_softmax(rows: int, n: int, *, dtype: str, aligned: bool, arch: Arch) -> Plan: ...
def plan_relu(size: int, *, dtype: str, aligned: bool, arch: Arch) -> Plan: ...
def plan_convert(
    N: int, rows: int, columns: int, *, x_dtype: str, dtype: str, arch: Arch
) -> Plan: ...
def packed_columns(gemm_k: int, dtype: str) -> int:
    """Columns of packed weights: GEMM_K (9*C or C) filled up with zeros to 16 bytes.

    ``dtype`` is a plan's: of "tf32" they are float32.
    """

def packed_bias(K: int) -> int:
    """Length of a packed bias: K filled up with zeros to a multiple of 8."""

# ---- Executors: where launches run ----

class Executor: ...

class Cuda(Executor):
    """Enqueues on ``stream`` (its address) of the current device.

    ``early``: launches that can may begin before those before them have ended, which must be of the
    same forward: weights are read at once.
    """

    def __init__(self, stream: int, *, early: bool = False) -> None: ...

class Emulator(Executor):
    """Runs the same kernels on the CPU, in host memory; see csrc/emulator/README.md.

    ``schedule``: "forward", "reverse", "round_robin" or "random" (with ``seed``); ``lazy``:
    asynchronous copies happen as late as is legal, else as early; ``races``: happens-before
    checks; ``workers``: CPU threads, 0 for one a core; ``instruction_limit``: of a warp, beyond
    which its loop counts as endless. ``modules`` replaces PTX texts by name.
    RuntimeError where the build has no emulator; EmulatorError for what a kernel did wrong.
    """

    def __init__(
        self,
        *,
        schedule: str = "forward",
        lazy: bool = True,
        races: bool = True,
        seed: int = 1,
        workers: int = 0,
        instruction_limit: int = 268435456,
        modules: dict[str, str] | None = None,
    ) -> None: ...
    def counters(self) -> dict[str, int]:
        """Of everything run since the last ``reset``."""

    def reset(self) -> None: ...
    def launch(
        self,
        ptx: str,
        kernel: str,
        *,
        grid: tuple[int, int, int],
        block: tuple[int, int, int],
        params: bytes,
        buffers: Sequence[tuple[str, Any, str]],
        smem_bytes: int = 0,
        cluster: tuple[int, int, int] = (1, 1, 1),
        early: bool = False,
    ) -> None:
        """Runs any kernel of a PTX text. ``buffers``: (name, array in host memory, access), with
        access "read", "constant", "write_once", "update" or "any"; ``params`` are the parameters'
        bytes, addresses of those arrays among them; ``cluster``: blocks of one; ``early``: launches
        before this one may still run until it waits, and constants alone may be read.
        """

class EmulatorError(RuntimeError):
    """What a kernel did wrong: the kernel, line, block and threads are named."""

def emulator_tensor_map(
    address: int,
    dtype: str,
    dims: Sequence[int],
    strides: Sequence[int],
    *,
    box: Sequence[int] | None = None,
    element_strides: Sequence[int] | None = None,
    swizzle: int = 0,
    fill: str = "zero",
    im2col: tuple[Sequence[int], Sequence[int], int, int] | None = None,
) -> bytes:
    """A tensor map as kernels on the emulator take it, for ``params``: csrc/launch/tensor_map.h.
    ``dims`` from the contiguous one on, ``strides`` in bytes of the others; ``swizzle`` 0, 32, 64
    or 128 bytes; ``fill`` "zero" or "nan"; ``im2col``: lower and upper corner, channels per pixel,
    pixels per column, in place of ``box``. ValueError for what the driver would refuse.
    """

def gpu_tensor_map(
    address: int,
    dtype: str,
    dims: Sequence[int],
    strides: Sequence[int],
    *,
    box: Sequence[int] | None = None,
    element_strides: Sequence[int] | None = None,
    swizzle: int = 0,
    fill: str = "zero",
    im2col: tuple[Sequence[int], Sequence[int], int, int] | None = None,
) -> bytes:
    """The same for a GPU, ``address`` in its memory, as its driver encodes it. RuntimeError where
    the build has no CUDA or the driver refuses.
    """

def emulator_modules() -> dict[str, str]:
    """The PTX that the emulator runs, by name: what nvcc made of csrc/kernels/."""

# ---- Operations ----
# Arrays are C-contiguous, in GPU memory (__cuda_array_interface__) for Cuda, in host memory
# (__array_interface__) for Emulator. They only enqueue, and raise TypeError for the kind of an
# array and its dtype, ValueError for a shape that is not the plan's and for layout, RuntimeError
# with CUDA's name of the error.

def conv3x3(
    plan: Plan,
    x: Any,
    w: Any,
    bias: Any,
    out: Any,
    workspace: Any,
    executor: Executor,
    *,
    normalize: tuple[Sequence[float], Sequence[float], bool] | None = None,
) -> None:
    """X [N,H,W,C], w [K,packed_columns(9*C)], bias float32 [packed_bias(K)], out [N,P,Q,K];
    workspace: bytes [plan.workspace_bytes] (uint8), or None where that is 0; ``normalize``:
    scale, shift (by w's channel) and whether x's channels are in the other order.
    """

def fused_conv1_block(
    plan: Plan,
    x: Any,
    w1: Any,
    bias1: Any,
    w2: Any,
    bias2: Any,
    out: Any,
    executor: Executor,
    *,
    normalize: tuple[Sequence[float], Sequence[float], bool] | None = None,
) -> None:
    """X [N,H,W,3], w1 [K1,packed_columns(27)], w2 [K2,packed_columns(9*K1)], biases float32, padded
    as conv3x3's, out [N,H//2,W//2,K2]; ``normalize`` as there.
    """

def linear(
    plan: Plan, x: Any, w: Any, bias: Any, out: Any, workspace: Any, executor: Executor
) -> None:
    """X [N,C], w [K,packed_columns(C)], bias float32 [packed_bias(K)], out [N,K]."""

def maxpool2x2(plan: Plan, x: Any, out: Any, executor: Executor) -> None: ...
def avgpool(plan: Plan, x: Any, out: Any, executor: Executor) -> None: ...
def adaptive_maxpool(plan: Plan, x: Any, out: Any, executor: Executor) -> None: ...
def softmax(plan: Plan, x: Any, out: Any, executor: Executor) -> None:
    """[rows,n] -> [rows,n]; ``out`` may be ``x``."""

def relu(plan: Plan, x: Any, out: Any, executor: Executor) -> None:
    """Of any shape; ``out`` may be ``x``."""

def convert(plan: Plan, x: Any, out: Any, executor: Executor) -> None:
    """X [N,rows,columns] (any shape of that size) -> out [N,columns,rows]."""
