"""Benchmark reports: a versioned JSON file, checked when it is written and when it is read.

All times are seconds per call, and a call is a whole batch. ``None`` means that a field does not
apply or that the machine does not report it; such fields of a result are left out of the file.
"""

from __future__ import annotations

import dataclasses
import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import Meta

T = TypeVar("T")

SCHEMA = 2
MAX_BYTES = 32 << 20
"""Size limit of a report file; a report of a thousand results has about one megabyte."""

SHORTEST_S, LONGEST_S = 1e-12, 1e9
"""Limits of a plausible measured time."""

Kind = Literal["model", "kernel", "profile"]
DeviceKind = Literal["cpu", "cuda", "emulator"]
Status = Literal["ok", "n/a", "wrong", "failed", "timeout"]
Bound = Literal["compute", "memory"]
Key = tuple[Any, ...]
KEY = ("name", "peer", "batch", "size", "dtype")  # fields that identify a result in its report

Amount = Annotated[float, Meta(ge=0, lt=1e30)]
Positive = Annotated[float, Meta(gt=0, lt=1e30)]
Count = Annotated[int, Meta(ge=1, lt=2**31)]
CallTime = Annotated[float, Meta(gt=SHORTEST_S, lt=LONGEST_S)]


@dataclass(frozen=True, kw_only=True)
class Ceiling:
    """Peak rate measured in the same run: of a copy (bytes) or a matrix product (FLOPs)."""

    median_s: CallTime
    samples: Count
    bytes_per_s: Amount | None = None  # read and written
    flops_per_s: Amount | None = None
    shape: list[int] | None = None  # of the product, [M, N, K]
    dtype: str | None = None


@dataclass(frozen=True, kw_only=True)
class Result:
    """One measurement: a network, layer or shape, run by one program at one batch size."""

    name: str  # "vgg16", a layer "conv3_2", or a shape "n1-h56-w56-c128-k256"
    peer: str  # "vgg_cuda", "torch", "compile", "onnxruntime", "jax"
    batch: Count
    dtype: str
    status: Status
    size: Count | None = None  # height and width of the images
    reason: str | None = None  # why the status is not "ok"
    relative_error: Amount | None = None  # L2, against the reference; None: output not finite
    samples: Count | None = None
    median_s: CallTime | None = None
    iqr_s: Amount | None = None
    confidence_s: tuple[Amount, Amount] | None = None  # 95 % interval of the median
    percentiles_s: dict[str, Amount] | None = None  # p50, p90, p95, p99
    images_per_s: Positive | None = None
    host_to_device_s: Amount | None = None
    enqueue_s: Amount | None = None
    device_s: Amount | None = None
    flops: Amount | None = None  # per call; a multiply and an add are two
    bytes: Amount | None = None  # minimum that a call reads and writes
    flops_per_s: Amount | None = None
    bytes_per_s: Amount | None = None
    of_compute: Amount | None = None  # fraction of the measured matrix-product rate
    of_memory: Amount | None = None  # fraction of the measured copy rate
    floor_s: Amount | None = None  # least time that both ceilings allow
    of_floor: Amount | None = None  # floor_s / median_s
    bound: Bound | None = None  # the ceiling that sets floor_s
    share: Amount | None = None  # fraction of the forward's time (profile)
    peak_bytes: Annotated[int, Meta(ge=0, lt=2**60)] | None = None  # peak resident memory
    load_s: Amount | None = None
    how: str | None = None  # "plain calls", "CUDA graph"
    kernels: list[str] | None = None
    counters: dict[str, Amount] | None = None  # the emulator's, in place of times
    ratio: Positive | None = None  # median_s / vgg_cuda's for the same work

    @property
    def key(self) -> Key:
        """The values of the fields :data:`KEY`."""
        return tuple(getattr(self, name) for name in KEY)

    @property
    def label(self) -> str:
        """The key as text: ``vgg16, torch, batch 8, float32``."""
        size = "" if self.size is None else f", size {self.size}"
        return f"{self.name}, {self.peer}, batch {self.batch}{size}, {self.dtype}"


@dataclass(kw_only=True)
class Report:
    """One run: machine, versions and settings, and the results in the order of measurement."""

    kind: Kind
    commit: str
    date: str  # UTC, "2026-11-28T12:00:00+00:00"
    device: str  # "AMD EPYC, 2 cores"
    device_kind: DeviceKind
    versions: dict[str, str]
    seed: Annotated[int, Meta(ge=0, le=2**63 - 1)]
    driver: str | None = None
    settings: dict[str, Any] = field(default_factory=dict)  # the command's options, resolved
    environment: dict[str, Any] = field(default_factory=dict)  # clocks, power, switches
    ceilings: dict[str, Ceiling] = field(default_factory=dict)  # "copy", "matmul"
    interrupted: bool = False
    results: list[Result] = field(default_factory=list)
    schema: int = SCHEMA

    def to_json(self) -> str:
        """Return the report as JSON text that ends with a newline.

        Raises ``ValueError`` if :func:`from_object` would refuse the text.
        """
        data = {"schema": self.schema} | dataclasses.asdict(self)
        data["ceilings"] = {name: _present(found) for name, found in data["ceilings"].items()}
        data["results"] = [_present(result) for result in data["results"]]
        from_object(json.loads(json.dumps(data)))
        text = json.dumps(data, indent=1, allow_nan=False, ensure_ascii=False) + "\n"
        text.encode()  # lone surrogates are refused here
        return text


def read(path: str | Path) -> Report:
    """Return the report in ``path``.

    Raises ``OSError`` if the file cannot be read, and ``ValueError`` with the file's name and the
    first bad field if it is no report of this schema.
    """
    with open(path, "rb") as file:
        data = file.read(MAX_BYTES + 1)
    try:
        if len(data) > MAX_BYTES:
            raise ValueError(f"expected at most {MAX_BYTES >> 20} MiB")
        return from_object(msgspec.json.decode(data))
    except RecursionError:
        raise ValueError(f"{path}: nested too deeply for a report") from None
    except msgspec.DecodeError as error:
        raise ValueError(f"{path}: not JSON: {error}") from None
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def from_object(data: object) -> Report:
    """Return the report in a decoded JSON object.

    Raises ``ValueError`` that names the first bad field.
    """
    if not isinstance(data, dict) or "schema" not in data:
        raise ValueError("no report of vgg-cuda bench: expected an object with a schema")
    if type(data["schema"]) is not int or data["schema"] != SCHEMA:
        raise ValueError(
            f"schema: expected {SCHEMA}, got {str(data['schema'])[:20]!r}: measure again with "
            "`vgg-cuda bench`"
        )
    report = typed(data, Report)
    _refuse_unknown(data, Report, "")
    for name, item in data.get("ceilings", {}).items():
        _refuse_unknown(item, Ceiling, f"ceilings.{name}.")
    for i, item in enumerate(data.get("results", ())):
        _refuse_unknown(item, Result, f"results[{i}].")
    if not re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(Z|\+00:00)", report.date, re.ASCII):
        raise ValueError(f"date: expected UTC as 2026-11-28T12:00:00+00:00, got {report.date!r}")
    seen: set[Key] = set()
    for i, result in enumerate(report.results):
        _check(result, report.kind, f"results[{i}] ({result.label})")
        if result.key in seen:
            raise ValueError(f"results[{i}]: a second result for {result.label}")
        seen.add(result.key)
    return report


def typed(data: object, kind: type[T]) -> T:
    """Return decoded JSON ``data`` as ``kind``.

    Raises ``ValueError`` as ``results[2].median_s: expected `float`, got `str```.
    """
    try:
        return msgspec.convert(data, kind)
    except msgspec.ValidationError as error:
        text, _, place = str(error).partition(" - at `$.")
        place = f"{place[:-1]}: " if place else ""
        raise ValueError(place + text[0].lower() + text[1:]) from None


def _refuse_unknown(
    data: dict[str, object], kind: type[Report | Ceiling | Result], where: str
) -> None:
    known = [field.name for field in dataclasses.fields(kind)]
    for name in data:
        if name not in known:
            raise ValueError(f"{where}{name}: unknown field; expected one of {', '.join(known)}")


def _check(result: Result, kind: Kind, where: str) -> None:
    """Refuse combinations of fields that the types allow and no run writes."""
    timed, ok = result.median_s is not None, result.status == "ok"
    if timed and not ok:
        raise ValueError(f"{where}: median_s: expected none with status {result.status!r}")
    if not ok and not result.reason:
        raise ValueError(f"{where}: reason: expected one with status {result.status!r}")
    if ok and not timed and result.counters is None:
        raise ValueError(f"{where}: median_s: expected a time, or the emulator's counters")
    if timed and (result.samples is None or result.confidence_s is None):
        raise ValueError(f"{where}: median_s: expected samples and confidence_s with it")
    if ok and kind != "profile" and result.relative_error is None:
        raise ValueError(f"{where}: relative_error: expected a number with status 'ok'")
    if result.confidence_s is not None and result.median_s is not None:
        low, high = result.confidence_s
        if not low <= result.median_s <= high:
            raise ValueError(f"{where}: confidence_s: expected an interval that holds median_s")


def _present(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}
