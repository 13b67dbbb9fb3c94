"""PyTorch's container: a zip of a pickle and raw storages, or (before 1.6) pickles and storages.

A pickle is a program. Only ``torch.load(weights_only=True)`` reads it, which accepts tensors and
plain values and executes nothing. It does not limit memory: the pickle states sizes, so these are
compared with the size of the file before any allocation.
"""

from __future__ import annotations

import os
import pickletools
import re
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from ..system.files import replacing
from ..text import listed, one_line
from .canonical import Array, WeightsError, import_extra, prefixed
from .checkpoint import Labels, labels_in, unwrap

ZIP_MAGIC = b"PK\x03\x04"
LEGACY_MAGIC = b"\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."  # torch.serialization.MAGIC_NUMBER, pickled


def matches(head: bytes) -> bool:
    """Return whether a file that begins with ``head`` is a zip or a pickle."""
    return head.startswith(ZIP_MAGIC) or (head[:1] == b"\x80" and head[1:2] in b"\2\3\4\5")


def read(
    path: Path, accept: Callable[[list[str]], Any]
) -> tuple[dict[str, Array], list[str], Labels | None]:
    """Return the state dict in the file, the keys of other tensors beside it, and its labels.

    ``accept`` checks the names before any tensor is copied.

    float16, bfloat16 and float64 become float32; tensors saved from a GPU are copied to the host.
    Raises :class:`WeightsError` for files that are not a complete state dict or would run code, and
    the errors of ``accept``.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(32)
        file.seek(0)
        zipped = head.startswith(ZIP_MAGIC)
        if zipped:
            _check_zip(file)
        elif LEGACY_MAGIC not in head:
            raise WeightsError(
                "expected a file of torch.save, got another pickle, which was not read, since a "
                "pickle can run code"
            )
        torch = _torch()
        try:
            if not zipped:
                _check_legacy(file, size)
            loaded = _load(torch, file, path, zipped)
        except Exception as error:  # corrupt files make torch.load raise nearly anything
            raise WeightsError(_explain(error)) from None
    if not isinstance(loaded, Mapping):
        raise WeightsError(
            "expected a state dict (torch.save(model.state_dict(), …)), got "
            f"{type(loaded).__name__}"
        )
    values, others = unwrap(loaded)
    unknown = [name for name in values if not isinstance(name, str)]
    if unknown:
        raise WeightsError(f"expected names of tensors, got {type(unknown[0]).__name__}")
    accept(list(values))
    places: dict[str, tuple[Any, ...]] = {}
    claimed: dict[tuple[Any, ...], int] = {}  # a tensor that is listed twice counts once
    for name, value in values.items():
        if type(value) not in (torch.Tensor, torch.nn.Parameter):
            raise WeightsError(f"{listed([name])}: expected a tensor, got {type(value).__name__}")
        places[name] = _place(name, value)
        claimed[places[name]] = value.numel() * value.element_size()
    total = sum(claimed.values())
    if total > size:  # strides of 0 turn a few bytes into terabytes
        raise WeightsError(
            f"expected tensors of at most the file's {size} bytes, got {total} bytes: if they are "
            "views of one another, save clones of them"
        )
    arrays: dict[tuple[Any, ...], Array] = {}
    for name, value in values.items():
        if places[name] not in arrays:
            arrays[places[name]] = to_array(name, value)
    return {name: arrays[place] for name, place in places.items()}, others, labels_in(loaded)


def _place(name: str, tensor: Any) -> tuple[Any, ...]:
    """Return what identical tensors have in common: memory, type, shape and strides."""
    if tensor.layout != _torch().strided or tensor.device.type != "cpu" or not tensor.numel():
        return (name,)
    return (tensor.data_ptr(), tensor.dtype, tuple(tensor.shape), tensor.stride())


def to_array(name: str, tensor: Any) -> Array:
    """Return a copy of a torch tensor as an array: integers unchanged, other types as float32."""
    torch = _torch()
    floats = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
    plain = tensor.layout == torch.strided and not tensor.is_quantized
    if not plain or tensor.device.type == "meta" or tensor.is_complex():
        raise WeightsError(f"{listed([name])}: expected a dense tensor of real numbers")
    if tensor.is_floating_point() and tensor.dtype not in floats:
        raise WeightsError(
            f"{listed([name])}: expected float32, float16, bfloat16 or float64, got {tensor.dtype}"
        )
    dtype = torch.float32 if tensor.is_floating_point() else tensor.dtype
    tensor = tensor.detach().to("cpu", dtype, copy=True, memory_format=torch.contiguous_format)
    array: Array = tensor.numpy()
    return array


def write(tensors: Mapping[str, NDArray[np.float32]], path: str | Path) -> None:
    """Write a state dict by torch.save, under a temporary name until it is complete.

    Raises ``OSError``, and :class:`WeightsError` without torch.
    """
    with prefixed(str(path)):
        torch = _torch()
    with replacing(path) as temporary:
        try:
            torch.save({n: torch.from_numpy(t) for n, t in tensors.items()}, temporary)
        except RuntimeError as error:  # torch's error for a full disk
            raise OSError(f"cannot write {path}: {one_line(error)}") from error


def _torch() -> Any:
    return import_extra("torch", "torch", "a PyTorch file")


def _load(torch: Any, file: IO[bytes], path: Path, zipped: bool) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # they concern the writer of the file
        if not zipped:
            return torch.load(file, weights_only=True, map_location="cpu")
        # By descriptor, since torch.load trusts a path that ends in .safetensors. Mapped, since a
        # mapped storage cannot be larger than the file.
        name = f"/proc/self/fd/{file.fileno()}"
        if not os.path.exists(name):
            name = str(path)
        return torch.load(name, weights_only=True, map_location="cpu", mmap=True)


def _check_zip(file: IO[bytes]) -> None:
    """Refuse a zip that torch.save did not write: without a pickle, or compressed."""
    try:
        with zipfile.ZipFile(file) as archive:
            entries = archive.infolist()
            for entry in entries:
                if entry.filename.endswith("/data.pkl") and entry.compress_type == 0:
                    for _ in _opcodes(archive.read(entry)):
                        pass
    except Exception as error:  # zipfile also raises struct's and other errors
        raise WeightsError(f"not a readable zip file: {one_line(error)}") from None
    if not any(entry.filename.endswith("/data.pkl") for entry in entries):
        raise WeightsError("expected a zip file of torch.save, with data.pkl, found no data.pkl")
    check_stored(entries, "torch.save")
    file.seek(0)


def check_stored(entries: Sequence[zipfile.ZipInfo], writer: str) -> None:
    """Refuse compressed entries, which ``writer`` does not make: one may be a bomb."""
    for entry in entries:
        if entry.compress_type != zipfile.ZIP_STORED or entry.file_size != entry.compress_size:
            raise WeightsError(
                f"{listed([entry.filename])}: expected entries stored without compression, as "
                f"{writer} writes them; this one claims {entry.file_size} bytes"
            )


def _check_legacy(file: IO[bytes], size: int) -> None:
    """Refuse a legacy file whose storages claim more than it holds; rewind ``file``.

    torch allocates the sizes that the pickle states. The pickle's opcodes are walked, not executed:
    after magic number, protocol and system comes the state dict, in which torch.save spells each
    storage as a tuple that ends in its element count and None.
    """
    for _ in range(3):
        for _ in _opcodes(file):
            pass
    before: list[tuple[str, Any]] = []
    elements = 0
    for name, argument in _opcodes(file):
        if name == "BINPERSID":
            (_, count), (none, _), (made, _) = before[-3:]
            if (none, made) != ("NONE", "TUPLE") or type(count) is not int:
                raise ValueError("expected the storages of torch.save")
            elements += max(count, 0)
            if elements > size:
                raise ValueError(f"expected at most {size} elements, got {elements}")
        elif "PUT" not in name and name != "MEMOIZE":
            before = [*before[-2:], (name, argument)]
    here = file.tell()
    if file.read(1):  # the storages' keys
        file.seek(here)
        for _ in _opcodes(file):
            pass
    file.seek(0)


def _opcodes(pickle: bytes | IO[bytes]) -> Iterator[tuple[str, Any]]:
    """Yield name and argument of every opcode of the pickle, which is not executed.

    Raises ``ValueError`` if the pickle names bytearray: no tensor needs it, weights_only allows the
    call, and the call allocates any amount of memory.
    """
    for opcode, argument, _ in pickletools.genops(pickle):
        if isinstance(argument, str) and "bytearray" in argument:
            raise ValueError("expected tensors only, got a pickle that names bytearray")
        yield opcode.name, argument


def _explain(error: Exception) -> str:
    text = str(error)
    unsafe = re.search(r"GLOBAL (\S+)", text)
    if unsafe:
        name = one_line(unsafe[1], 80)
        return (
            f"expected tensors only, got a pickle that calls {name}, which may run code; save "
            "the weights: torch.save(model.state_dict(), …)"
        )
    detail = text.rsplit("\n\n", 2)[-2] if "Weights only load failed" in text else text
    return f"not a readable PyTorch file: {one_line(detail) or type(error).__name__}"
