"""What a benchmark found, as one JSON file with a version: written, read back and checked.

All times are seconds per call, and a call is a whole batch. ``None`` means that a field does not
apply or that the machine does not tell; such fields of a result are left out of the file.
"""

from __future__ import annotations

import dataclasses
import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NoReturn

from ..files import replacing
from .replies import LONGEST_S, SHORTEST_S
from .validation import build

SCHEMA = 2
MAX_BYTES = 32 << 20
"""A file beyond this is refused unread; a report of a thousand results has about one megabyte."""

MAX_NUMBER = 1e30
"""Nothing that is measured has more FLOPs, bytes or seconds."""

Kind = Literal["model", "kernel", "profile"]
DeviceKind = Literal["cpu", "cuda", "emulator"]
Status = Literal["ok", "n/a", "wrong", "failed", "timeout"]
Bound = Literal["compute", "memory"]
Key = tuple[str, str, int, int | None, str]


@dataclass(frozen=True, kw_only=True)
class Ceiling:
    """What the machine reached in the same run: a copy (bytes) or a matrix product (flops)."""

    median_s: float
    samples: int
    bytes_per_s: float | None = None  # read and written
    flops_per_s: float | None = None
    shape: list[int] | None = None  # of the product, [M, N, K]
    dtype: str | None = None


@dataclass(frozen=True, kw_only=True)
class Result:
    """One measurement: a network, layer or shape, run by one program at one batch size."""

    name: str  # "vgg16", a layer "conv3_2", or a shape "n1-h56-w56-c128-k256"
    peer: str  # "vgg_cuda", "torch", "compile", "onnxruntime", "jax"
    batch: int
    dtype: str
    status: Status
    size: int | None = None  # height and width of the images
    reason: str | None = None  # why the status is not "ok"
    relative_error: float | None = None  # L2, against the reference; None: output not finite
    samples: int | None = None
    median_s: float | None = None
    iqr_s: float | None = None
    confidence_s: tuple[float, float] | None = None  # 95 % interval of the median
    percentiles_s: dict[str, float] | None = None  # p50, p90, p95, p99
    images_per_s: float | None = None
    host_to_device_s: float | None = None
    enqueue_s: float | None = None
    device_s: float | None = None
    flops: float | None = None  # per call; a multiply and an add are two
    bytes: float | None = None  # least that a call reads and writes
    flops_per_s: float | None = None
    bytes_per_s: float | None = None
    of_compute: float | None = None  # part of the measured ceiling of products
    of_memory: float | None = None  # part of the measured ceiling of copies
    floor_s: float | None = None  # least time that both ceilings allow
    of_floor: float | None = None  # floor_s / median_s
    bound: Bound | None = None  # by which ceiling
    share: float | None = None  # part of the forward's time (profile)
    peak_bytes: int | None = None  # most memory resident
    load_s: float | None = None
    how: str | None = None  # "plain calls", "CUDA graph"
    kernels: list[str] | None = None
    counters: dict[str, float] | None = None  # the emulator's, in place of times
    ratio: float | None = None  # median_s / vgg_cuda's of the same name, batch, size and dtype

    @property
    def key(self) -> Key:
        """What tells a result from the others of its report."""
        return self.name, self.peer, self.batch, self.size, self.dtype

    @property
    def label(self) -> str:
        """The key for people: ``vgg16, torch, batch 8, float32``."""
        size = "" if self.size is None else f", size {self.size}"
        return f"{self.name}, {self.peer}, batch {self.batch}{size}, {self.dtype}"


@dataclass(kw_only=True)
class Report:
    """A run: where and with what it was made, and its results in the order of measuring."""

    kind: Kind
    commit: str
    date: str  # UTC, "2026-11-28T12:00:00+00:00"
    device: str  # "AMD EPYC, 2 cores"
    device_kind: DeviceKind
    versions: dict[str, str]
    seed: int
    driver: str | None = None
    settings: dict[str, Any] = field(default_factory=dict)  # what the command was asked for
    environment: dict[str, Any] = field(default_factory=dict)  # clocks, temperature, power
    ceilings: dict[str, Ceiling] = field(default_factory=dict)  # "copy", "matmul"
    interrupted: bool = False
    results: list[Result] = field(default_factory=list)
    schema: int = SCHEMA

    def to_json(self) -> str:
        """The report's text; ends with a newline. Raises ``ValueError`` where it is not valid."""
        from_object(data := _object(self))
        return json.dumps(data, indent=1, allow_nan=False, ensure_ascii=False) + "\n"

    def write(self, path: str | Path) -> None:
        """Writes ``path`` whole or not at all. Raises ``OSError`` or ``ValueError``."""
        text = self.to_json()
        with replacing(path) as temporary:
            temporary.write_text(text, encoding="utf-8")


def read(path: str | Path) -> Report:
    """The report in ``path``.

    Raises ``OSError`` where it cannot be read and ``ValueError``, with the file's name and the
    first thing that is wrong, where it is no report of this schema.
    """
    with open(path, "rb") as file:
        data = file.read(MAX_BYTES + 1)
    try:
        if len(data) > MAX_BYTES:
            raise ValueError(f"more than {MAX_BYTES >> 20} MiB, no report is that large")
        return from_object(_parse(data))
    except RecursionError:
        raise ValueError(f"{path}: nested too deeply for a report") from None
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def from_object(data: object) -> Report:
    """The report that a JSON object holds. Raises ``ValueError`` with the first thing wrong."""
    if not isinstance(data, dict) or "schema" not in data:
        raise ValueError("no report of vgg-cuda bench: expected an object with a schema")
    if type(data["schema"]) is not int or data["schema"] != SCHEMA:
        raise ValueError(
            f"schema {str(data['schema'])[:20]!r}, this version reads {SCHEMA}: measure it anew "
            "with `vgg-cuda bench`"
        )
    report = build(data, Report, "")
    if not re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(Z|\+00:00)", report.date, re.ASCII):
        raise ValueError(f"date: expected UTC as 2026-11-28T12:00:00+00:00, got {report.date!r}")
    for name, ceiling in report.ceilings.items():
        _positive(ceiling, f"ceilings.{name}")
    seen: set[Key] = set()
    for i, result in enumerate(report.results):
        _check(result, report.kind, f"results[{i}] ({result.label})")
        if result.key in seen:
            raise ValueError(f"results[{i}]: a second result for {result.label}")
        seen.add(result.key)
    return report


_NEVER_ZERO = {"batch", "size", "samples", "median_s", "images_per_s", "ratio"}


def _check(result: Result, kind: Kind, where: str) -> None:
    """What the types do not say: what belongs to which status, and signs."""
    timed, ok = result.median_s is not None, result.status == "ok"
    if timed and not ok:
        raise ValueError(f"{where}: has a time though its status is {result.status!r}")
    if not ok and not result.reason:
        raise ValueError(f"{where}: status {result.status!r} needs a reason")
    if ok and not timed and result.counters is None:
        raise ValueError(f"{where}: status 'ok' needs median_s, or the emulator's counters")
    if timed and (result.samples is None or result.confidence_s is None):
        raise ValueError(f"{where}: a time needs samples and confidence_s beside it")
    if ok and kind != "profile" and result.relative_error is None:
        raise ValueError(f"{where}: a result needs its relative_error beside it")
    _positive(result, where)
    if result.confidence_s is not None and result.median_s is not None:
        low, high = result.confidence_s
        if not low <= result.median_s <= high or not SHORTEST_S < result.median_s < LONGEST_S:
            raise ValueError(f"{where}: confidence_s: expected an interval that holds median_s")


def _positive(values: Ceiling | Result, where: str) -> None:
    for item in dataclasses.fields(values):
        value = getattr(values, item.name)
        several = list(value.values()) if isinstance(value, dict) else value
        for number in several if isinstance(several, (list, tuple)) else [several]:
            if isinstance(number, (int, float)) and (
                not 0 <= number < MAX_NUMBER or (number == 0 and item.name in _NEVER_ZERO)
            ):
                raise ValueError(f"{where}: {item.name}: got {number:.4g}, which nothing can have")


def _object(report: Report) -> dict[str, Any]:
    """The report as JSON sees it: lists for pairs, no absent fields in results and ceilings."""

    def present(values: Ceiling | Result) -> dict[str, Any]:
        items = dataclasses.asdict(values).items()
        return {k: list(v) if isinstance(v, tuple) else v for k, v in items if v is not None}

    data: dict[str, Any] = {"schema": report.schema}
    data |= {f.name: getattr(report, f.name) for f in dataclasses.fields(report)}
    data["ceilings"] = {name: present(ceiling) for name, ceiling in report.ceilings.items()}
    data["results"] = [present(result) for result in report.results]
    return data


def _parse(data: bytes) -> object:
    def refuse(constant: str) -> NoReturn:
        raise ValueError(f"{constant} is no number that a report can hold")

    try:
        return json.loads(data.decode("utf-8"), parse_constant=refuse)
    except UnicodeDecodeError:
        raise ValueError("not JSON: not even UTF-8") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON: {error}") from None
