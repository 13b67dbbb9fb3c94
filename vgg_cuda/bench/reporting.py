"""The parts of a report besides its results: machine, settings and ceilings."""

from __future__ import annotations

import datetime
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ..backends.threads import cores
from . import machine
from .measure import Measurements
from .peers import ceilings
from .report import Ceiling, Report, Result
from .work import Work

if TYPE_CHECKING:
    from .options import Settings


def empty_report(settings: Settings) -> Report:
    """Return a report with the facts that are known before any measurement."""
    options, device = settings.options, settings.job.device
    now = datetime.datetime.now(datetime.timezone.utc)
    kind: Any = "cuda" if settings.job.on_gpu else device
    before = machine.state(device)
    return Report(
        kind=options.kind, commit=machine.commit(), date=now.isoformat(timespec="seconds"),
        device=machine.describe(device), device_kind=kind, versions=machine.versions(),
        seed=options.seed, driver=before.get("driver"),
        settings={
            "network": None if options.shapes else options.network, "size": settings.size,
            "batches": list(options.batches), "dtype": settings.job.dtype, "device": device,
            "arch": settings.job.arch, "graph": options.graph and settings.job.on_gpu,
            "noise": settings.noise, "timeout_s": settings.timeouts.sampling,
            "budget_s": settings.budget, "peers": list(settings.peers), "threads": cores(),
        },
        environment={"before": before},
    )  # fmt: skip


def ceiling(work: Work, taken: Measurements, dtype: str) -> Ceiling:
    """Return the rate of the fastest sample of a copy or a matrix product."""
    median, fastest = float(np.median(taken.times)), min(taken.times)
    samples = len(taken.times)
    if work.name == "copy":
        rate = 2 * work.shape[0] / fastest
        return Ceiling(median_s=median, samples=samples, bytes_per_s=rate)
    return Ceiling(
        median_s=median, samples=samples, flops_per_s=ceilings.flops(work) / fastest,
        shape=list(work.shape), dtype=dtype,
    )  # fmt: skip


def valid(row: Result, report: Report) -> Result:
    """Return ``row`` if ``report`` can hold it, else a failed result with the reason."""
    try:
        replace(report, results=[row]).to_json()
    except ValueError as error:
        return Result(
            name=row.name, peer=row.peer, batch=row.batch, size=row.size, dtype=row.dtype,
            status="failed", reason=f"invalid measurement: {error}",
        )  # fmt: skip
    return row


def progress_line(row: Result | None, work: Work, name: str) -> str:
    """Return a progress message about a new result; None stands for the rows of a profile."""
    start = f"{work.name}, batch {work.batch}, {name}: "
    if row is None:
        return f"{start}profiled"
    if row.median_s is None:
        return start + (row.reason or row.status)
    return f"{start}{row.median_s * 1e3:.4g} ms, {row.samples} samples"
