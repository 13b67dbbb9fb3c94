"""Fuzz target: mutated weight files may only raise WeightsError.

    python tests/fuzz/fuzz_weights.py --seconds 3600 --seed 1

Plain Python, the same inputs for the same seed. A file that breaks the rule is written to
``--keep`` (default ``tests/fuzz/found``) with a name that says how, and the run ends with 1.
With ``--atheris`` the mutations come from that coverage-guided fuzzer, where it is installed.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import random
import struct
import sys
import tempfile
import time
import warnings
import zipfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import safetensors.torch
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from support.memory import peak_kib, reset_peak
from support.torch_vgg import TimmVGG, TorchVGG

from vgg_cuda.weights import (
    AssumedWarning,
    DroppedWarning,
    HeadDroppedWarning,
    WeightsError,
    load_weights,
)
from vgg_cuda.weights.metadata import KEY

MEMORY_KIB = 100_000
"""Limit of the memory for one file."""

TINY = "1 M 1 M 2 M 1 1 M 2 M"
INTERESTING = (0, 1, -1, 7, 127, 128, 255, 256, 32767, 65535, 2**31 - 1, 2**31, 2**32 - 1, 2**62)
TOKENS = (
    b"features.", b"classifier.", b"pre_logits.fc1.", b"head.fc.", b"conv1_1.", b"fc6.", b"weight",
    b"bias", b"running_var", b"module.", b"state_dict", b"F32", b"BF16", b"F64", b"I64", b"U8",
    b"data_offsets", b"shape", b"__metadata__", b"vgg_cuda", b"labels", b"preset", b"NaN", b"null",
    b"state_dict_ema", b"backbone.", b"0.",
    b"PK\x03\x04", b"PK\x01\x02", b"PK\x05\x06", b"data.pkl", b"byteorder", b"cuda:0",
    b"FloatStorage", b"HalfStorage", b"_rebuild_tensor_v2", b"_rebuild_parameter", b"OrderedDict",
    b"cposix\nsystem\n", b"c__builtin__\neval\n", b"\x80\x02", b"\x8a\x0a", b"\x85R", b"\x86R",
)  # fmt: skip


@cache
def corpus() -> dict[str, bytes]:
    """Return the seeds: every format, wrapped and bare, as small as possible."""
    seeds: dict[str, bytes] = {}
    for kind in (TorchVGG, TimmVGG):
        for bn in (False, True):
            module = kind(TINY, hidden=2, num_classes=2, batch_norm=bn)
            state = dict(module.state_dict())
            name = f"{kind.__name__}{'-bn' if bn else ''}"
            seeds[f"{name}.safetensors"] = safetensors.torch.save(state)
            for legacy in (False, True):
                out = io.BytesIO()
                wrapped = {"state_dict": state, "epoch": 3} if bn else state
                torch.save(wrapped, out, _use_new_zipfile_serialization=not legacy)
                seeds[f"{name}{'-legacy' if legacy else ''}.pth"] = out.getvalue()
    tensors = load_weights(TorchVGG(TINY, hidden=2, num_classes=2).state_dict()).tensors
    native = {n: torch.from_numpy(t) for n, t in tensors.items()}
    stated = '{"version": 1, "labels": ["a", "b"], "preset": {"name": "x", "resize": [40, 48]}}'
    seeds["native.safetensors"] = safetensors.torch.save(native, {KEY: stated})
    half = {n: t.bfloat16() for n, t in native.items()}
    seeds["native-bf16.safetensors"] = safetensors.torch.save(half)
    nan = {n: t * float("nan") if n.startswith("fc") else t for n, t in native.items()}
    seeds["native-nan.safetensors"] = safetensors.torch.save(nan)
    return seeds


def mutated(rng: random.Random) -> bytes:
    """Return a seed with a few mutations, half of them in its structure."""
    name = rng.choice(sorted(corpus()))
    data = bytearray(corpus()[name])
    if name.endswith(".pth") and data[:2] == b"PK" and rng.random() < 0.4:
        return _in_the_pickle(rng, bytes(data))
    if name.endswith(".safetensors") and rng.random() < 0.5:
        (length,) = struct.unpack_from("<Q", data)
        text = bytearray(data[8 : 8 + length])
        _mutate(rng, text)
        return struct.pack("<Q", len(text)) + bytes(text) + bytes(data[8 + length :])
    _mutate(rng, data)
    return bytes(data)


def _in_the_pickle(rng: random.Random, data: bytes) -> bytes:
    """Return a zip with valid checksums, so that the mutation reaches the unpickler."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(out, "w") as new:
        for entry in old.namelist():
            content = bytearray(old.read(entry))
            if entry.endswith("data.pkl") or rng.random() < 0.1:
                _mutate(rng, content)
            new.writestr(entry, bytes(content))
    return out.getvalue()


def _mutate(rng: random.Random, data: bytearray) -> None:
    for _ in range(rng.choice((1, 1, 1, 2, 3, 8))):
        if not data:
            return
        at = rng.randrange(len(data))
        if rng.random() < 0.5:  # headers, pickles and directories are at the ends
            at = rng.choice((at % 2048, -1 - at % 1024)) % len(data)
        size = rng.choice((1, 2, 4, 8))
        choice = rng.randrange(8)
        if choice == 0:
            data[at] ^= 1 << rng.randrange(8)
        elif choice == 1:
            data[at] = rng.randrange(256)
        elif choice == 2:
            value = rng.choice(INTERESTING) % 256**size
            data[at : at + size] = value.to_bytes(size, "little")
        elif choice == 3:
            data[at : at + rng.randrange(1, 64)] = b""
        elif choice == 4:
            data[at:at] = data[at : at + rng.randrange(1, 64)]
        elif choice == 5:
            token = rng.choice(TOKENS)
            data[at : at + rng.choice((0, len(token)))] = token
        elif choice == 6:
            del data[at:]
        else:  # digits in JSON and in names
            digits = [i for i in range(at, min(at + 200, len(data))) if 48 <= data[i] < 58]
            if digits:
                data[digits[0] : digits[0] + 1] = rng.choice(
                    (b"0", b"9", b"-1", b"99999999999", b"9" * 5000, b"1e9")
                )


def check(data: bytes, path: Path) -> str | None:
    """Return how ``data`` breaks the rule, or None."""
    reset_peak()
    before = peak_kib()
    path.write_bytes(data)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            for expected in (AssumedWarning, DroppedWarning, HeadDroppedWarning):
                warnings.simplefilter("ignore", expected)
            load_weights(path)
    except WeightsError as error:
        if "\n" in str(error) or len(str(error)) > 2000:
            return "message"
    except Exception as error:
        return type(error).__name__
    if peak_kib() - before > MEMORY_KIB:
        return "memory"
    return None


def run(seconds: float, seed: int, keep: Path, limit: int | None = None) -> tuple[int, list[Path]]:
    """Run for ``seconds`` or ``limit`` inputs; return their number and the failures."""
    found = []
    with tempfile.TemporaryDirectory() as folder:
        tried = 0
        for data in _inputs(seed, time.monotonic() + seconds, limit):
            tried += 1
            why = check(data, Path(folder) / "w")
            if why:
                keep.mkdir(parents=True, exist_ok=True)
                path = keep / f"{why}-{hashlib.sha256(data).hexdigest()[:16]}"
                path.write_bytes(data)
                found.append(path)
    return tried, found


def _inputs(seed: int, end: float, limit: int | None) -> Iterator[bytes]:
    yield from corpus().values()
    number = 0
    while time.monotonic() < end and (limit is None or number < limit):
        yield mutated(random.Random(f"{seed}-{number}"))  # each input is reproducible
        number += 1


def _atheris() -> None:
    import atheris

    path = Path(tempfile.mkdtemp()) / "w"

    def one(data: bytes) -> None:
        why = check(data, path)
        if why:
            raise RuntimeError(why)

    atheris.Setup(sys.argv[:1], one)
    atheris.Fuzz()


def main() -> int:
    parser = argparse.ArgumentParser(description="Fuzzes load_weights.")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, default=Path(__file__).parent / "found")
    parser.add_argument("--atheris", action="store_true")
    given = parser.parse_args()
    if given.atheris:
        _atheris()
    tried, found = run(given.seconds, given.seed, given.keep)
    print(f"{tried} files, {len(found)} broke the rule")
    for path in found:
        print(path)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
