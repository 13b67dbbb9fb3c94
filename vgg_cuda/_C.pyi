"""Types of the compiled module; csrc/bindings.cpp is its source."""

from typing import Any, Protocol, TypedDict

class CudaArray(Protocol):
    """An array in GPU memory: of CuPy, of PyTorch."""

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]: ...

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
def cuda_version() -> str | None: ...
def architectures() -> list[str]: ...
def device_info() -> DeviceInfo: ...

# The operations enqueue on ``stream`` of the current device and return. Arrays are C-contiguous;
# ``dtype`` names the one of x, w and out where their interface cannot: "bfloat16". They raise
# TypeError for the kind of an array and its dtype, ValueError for shapes and layout, and
# RuntimeError, with the name that CUDA gives the error, where a launch fails.

def conv3x3(
    x: CudaArray,
    w: CudaArray,
    bias: CudaArray,
    out: CudaArray,
    *,
    relu: bool,
    pool: bool,
    stream: int,
    dtype: str | None = None,
) -> None: ...
def linear(
    x: CudaArray,
    w: CudaArray,
    bias: CudaArray,
    out: CudaArray,
    *,
    relu: bool,
    stream: int,
    dtype: str | None = None,
) -> None: ...
def maxpool2x2(x: CudaArray, out: CudaArray, *, stream: int, dtype: str | None = None) -> None: ...
def avgpool(x: CudaArray, out: CudaArray, *, stream: int, dtype: str | None = None) -> None: ...
def relu(x: CudaArray, out: CudaArray, *, stream: int, dtype: str | None = None) -> None: ...
def softmax(x: CudaArray, out: CudaArray, *, stream: int, dtype: str | None = None) -> None: ...
