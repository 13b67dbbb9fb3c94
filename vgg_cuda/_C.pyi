"""Types of the compiled module, whose source is csrc/bindings/."""

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
    """GPUs of a machine; ``reason`` explains why none is usable."""

    available: bool
    reason: str | None
    driver: str | None
    """Newest CUDA version that the driver supports, such as ``"13.0"``."""
    devices: list[Device]

def commit() -> str: ...
def built_with_cuda() -> bool: ...
def built_with_emulator() -> bool: ...
def cuda_version() -> str | None: ...
def architectures() -> list[str]: ...
def device_info() -> DeviceInfo: ...
def kernels() -> list[str]:
    """Return the names of all kernels in this build."""

class CudaError(RuntimeError):
    """Error of CUDA; names the kernel and the error. All builds have this class."""

class LaunchRefused(CudaError):  # noqa: N818
    """The driver refused a tensor map or a launch before it began; other launches still work."""

class DeviceLost(CudaError):  # noqa: N818
    """The GPU's context is lost: every later call of this process fails, too."""

# ---- Plans: launches of an operation, decided on the host alone ----

class Arch:
    """Properties of a GPU that plans depend on."""

    name: str
    sm_count: int
    smem_per_block_bytes: int
    smem_per_sm_bytes: int
    threads_per_sm: int
    families: tuple[str, ...]
    """Kernel families that plans may use, besides the portable kernels."""
    rates: dict[str, float]
    """Constants of the estimates that choose kernels; csrc/plan/rates.h explains them."""
    def without(self, families: Sequence[str]) -> Arch:
        """Return a copy whose plans do not use these families.

        Raises ValueError, which lists the known families, for an unknown one.
        """

    def with_rates(self, **rates: float) -> Arch:
        """Return a copy with other ``rates``.

        Raises ValueError, which lists the known rates, for an unknown one, and for values that are
        not positive.
        """

def families() -> list[str]:
    """Return the kernel families that can be switched off."""

def arch(name: str) -> Arch:
    """Return the architecture ``name``, such as "sm_80".

    Raises ValueError, which lists the known names, for an unknown name.
    """

def arch_names() -> list[str]: ...
def device_arch(major: int, minor: int, sm_count: int) -> Arch:
    """Return the architecture of a device.

    Raises ValueError for a device older than sm_80.
    """

def can_run(arch: Arch, major: int, minor: int) -> bool:
    """Return whether a device of this compute capability can run plans for ``arch``."""

class Plan:
    """Launches of one operation on arrays of one shape. Immutable and reusable."""

    op: str
    arch: str
    kernel: str
    """Kernel of the first launch, such as "conv3x3_f16_m128n128_pool"."""
    family: str
    """Kernel family: "portable", or one of ``families()``."""
    variant: str
    """Value of ``variant=`` that selects this kernel; empty if the operation has no variants."""
    estimate: dict[str, float]
    """Estimated clock cycles of the busiest SM; empty for operations without multiply-adds.

    cycles of the whole operation; main_cycles of its main loop, which at the same time spends
    math_cycles on multiply-adds, port_cycles on reads and writes of shared memory (0 if math_cycles
    includes them), and l2_cycles on loads from the L2 cache or memory.
    """
    workspace_bytes: int
    """Scratch memory that the operation needs."""
    macs: int
    """Useful multiply-adds."""
    def as_dict(self) -> dict[str, Any]:
        """Return the plan as plain bools, numbers, strings, lists and tuples.

        Keys: op, arch, family, variant, estimate, macs, workspace_bytes; launches (list of dicts
        with kernel, grid, block, smem_bytes, cluster, early, blocks_per_sm); tiling (dict with
        gemm_m, gemm_n, gemm_k, block_m, block_n, block_k, stages, split_k, steps, partial_sum,
        walk); tiles of the first launch; issued_macs (including padding); load_bytes and
        store_bytes of the SMs (a multicast counts once per cluster).
        """

# Sizes are >= 1. ValueError, which names the operation, if a matrix product or a grid does not fit
# in an int32. ``aligned``: whether x and out start at a multiple of 16 bytes. dtypes are "float32",
# "float16" and "bfloat16". x of a first convolution (C == 3) and of convert may also be "uint8".
# ``dtype`` of conv3x3 and linear may also be "tf32": then x, w and out are float32, and w is
# rounded to eleven binary digits, ties away from zero. TypeError for other dtypes.

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
    """Plan a 3x3 convolution.

    ``variant``: the tile, one of ``conv3x3_variants``, such as "halo_m256n128_c2"; None selects the
    variant with the lowest estimated time. Raises ValueError, which lists the variants, for an
    unknown one.
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
    """Return the available variants; empty for images (C == 3)."""

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
    """Plan the first two convolutions and their pool as one kernel.

    Returns None if no kernel supports both convolutions. ``aligned``: whether out starts at a
    multiple of 16 bytes. ``first_tiling`` in the plan describes the first convolution.
    """

def plan_linear(
    N: int,
    C: int,
    K: int,
    *,
    dtype: str,
    relu: bool,
    aligned: bool,
    arch: Arch,
    variant: str | None = None,
) -> Plan:
    """Plan a fully connected layer.

    ``variant`` as in ``plan_conv3x3``: one of ``linear_variants``, such as "dense_m8_split4".
    """

def linear_variants(
    N: int, C: int, K: int, *, dtype: str, relu: bool, aligned: bool, arch: Arch
) -> list[str]:
    """Return the available variants."""

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
def plan_affine(
    N: int, H: int, W: int, C: int, *, dtype: str, aligned: bool, arch: Arch
) -> Plan: ...
def plan_convert(
    N: int, rows: int, columns: int, *, x_dtype: str, dtype: str, arch: Arch
) -> Plan: ...
def packed_columns(gemm_k: int, dtype: str) -> int:
    """Return the columns of packed weights: GEMM_K (9*C or C), padded with zeros to 16 bytes.

    ``dtype`` is the dtype of the plan; packed weights for "tf32" are float32.
    """

def packed_bias(K: int) -> int:
    """Return the length of a packed bias: K, padded with zeros to a multiple of 8."""

# ---- Executors: where launches run ----

class Executor:
    """Base class of executors, which run the launches of plans."""

class Cuda(Executor):
    """Executor that enqueues on ``stream`` (its address) of the current device.

    ``early``: launches that support it may begin before the previous launch has ended. The previous
    launch must belong to the same forward, because weights are read at once. ``dry``: operations
    encode tensor maps and load kernels, but launch nothing.
    """

    def __init__(self, stream: int, *, early: bool = False, dry: bool = False) -> None: ...

class Emulator(Executor):
    """Executor that runs the same kernels on the CPU, in host memory; see csrc/emulator/README.md.

    ``schedule``: "forward", "reverse", "round_robin" or "random" (with ``seed``). ``lazy``:
    asynchronous copies complete as late as is legal, otherwise as early. ``races``: happens-before
    checks. ``workers``: CPU threads, 0 for one per core. ``instruction_limit``: instructions per
    warp, after which the launch fails. ``modules`` replaces PTX texts by name. ``dry``: operations
    encode tensor maps and look kernels up, but run nothing.
    Raises RuntimeError if the build has no emulator, and EmulatorError for errors of a kernel.
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
        dry: bool = False,
    ) -> None: ...
    def counters(self) -> dict[str, int]:
        """Return the counters of all launches since the last ``reset``."""

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
        """Run a kernel of any PTX text.

        ``buffers``: (name, array in host memory, access), with access "read", "constant",
        "write_once", "update" or "any". ``params``: the bytes of the parameters, which include the
        addresses of these arrays. ``cluster``: cluster size in blocks. ``early``: earlier launches
        may still run until the kernel waits for them; until then it may access only constants.
        """

class EmulatorError(RuntimeError):
    """Error of a kernel; names the kernel, source line, block and threads."""

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
    """Return a tensor map for ``params`` of kernels on the emulator; see csrc/launch/tensor_map.h.

    ``dims``: the contiguous dimension first. ``strides``: of the other dimensions, in bytes.
    ``swizzle``: 0, 32, 64 or 128 bytes. ``fill``: "zero" or "nan". ``im2col``: lower corner, upper
    corner, channels per pixel and pixels per column, in place of ``box``. Raises ValueError for a
    map that the driver would refuse.
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
    """Return a tensor map for ``params`` of kernels on a GPU, encoded by its driver.

    Arguments are as in ``emulator_tensor_map``, with ``address`` in GPU memory. Raises CudaError
    without CUDA or a usable driver, and LaunchRefused if the driver refuses the map.
    """

def emulator_modules(*, debug_waits: bool = False) -> dict[str, str]:
    """Return the PTX that the emulator runs, by the name of its source file.

    With ``debug_waits``, return the PTX of some kernels of sm_90a that was compiled with
    VGG_CUDA_DEBUG_WAITS.
    """

# ---- Operations ----
# Arrays are C-contiguous, in GPU memory (__cuda_array_interface__) for Cuda and in host memory
# (__array_interface__) for Emulator. Operations only enqueue. They raise TypeError for a wrong kind
# of array or dtype, ValueError for a wrong shape or layout, and CudaError.

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
    """Run a 3x3 convolution.

    x [N,H,W,C], w [K,packed_columns(9*C)], bias float32 [packed_bias(K)], out [N,P,Q,K].
    ``workspace``: uint8 [plan.workspace_bytes], or None if that is 0. ``normalize``: scale and
    shift per channel of w, and whether the channels of x are in reverse order.
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
    """Run the first two convolutions and their pool.

    x [N,H,W,3], w1 [K1,packed_columns(27)], w2 [K2,packed_columns(9*K1)], biases float32
    [packed_bias(K1)] and [packed_bias(K2)], out [N,H//2,W//2,K2]. ``normalize`` as in ``conv3x3``.
    """

def linear(
    plan: Plan, x: Any, w: Any, bias: Any, out: Any, workspace: Any, executor: Executor
) -> None:
    """Run a fully connected layer.

    x [N,C], w [K,packed_columns(C)], bias float32 [packed_bias(K)], out [N,K]. ``workspace`` as in
    ``conv3x3``.
    """

def maxpool2x2(plan: Plan, x: Any, out: Any, executor: Executor) -> None: ...
def avgpool(plan: Plan, x: Any, out: Any, executor: Executor) -> None: ...
def adaptive_maxpool(plan: Plan, x: Any, out: Any, executor: Executor) -> None: ...
def softmax(plan: Plan, x: Any, out: Any, executor: Executor) -> None:
    """Compute the softmax of each row: x [rows,n] -> out [rows,n]. ``out`` may be ``x``."""

def relu(plan: Plan, x: Any, out: Any, executor: Executor) -> None:
    """Compute max(x, 0) for arrays of any shape. ``out`` may be ``x``."""

def affine(plan: Plan, x: Any, scale: Any, shift: Any, out: Any, executor: Executor) -> None:
    """Compute x * scale + shift per channel: x [N,H,W,C] -> out [N,H,W,C]. ``out`` may be ``x``.

    scale and shift are float32 [packed_bias(C)].
    """

def convert(plan: Plan, x: Any, out: Any, executor: Executor) -> None:
    """Transpose and convert x [N,rows,columns] (any shape of that size) to out [N,columns,rows]."""
