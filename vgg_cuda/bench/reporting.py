"""What a report holds beside its results: where and how it was made, and the ceilings."""

from __future__ import annotations

import datetime
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ..backends.threads import cores
from . import machine
from .measure import Taken
from .peers import ceilings
from .report import Ceiling, Report, Result
from .work import Work

if TYPE_CHECKING:
    from .options import Asked


def empty_report(asked: Asked) -> Report:
    """What is known before anything is measured."""
    options, device = asked.options, asked.job.device
    now = datetime.datetime.now(datetime.timezone.utc)
    kind: Any = "cuda" if asked.job.on_gpu else device
    before = machine.state(device)
    return Report(
        kind=options.kind, commit=machine.commit(), date=now.isoformat(timespec="seconds"),
        device=machine.describe(device), device_kind=kind, versions=machine.versions(),
        seed=options.seed, driver=before.get("driver"),
        settings={
            "network": None if options.shapes else options.network, "size": asked.size,
            "batches": list(options.batches), "dtype": asked.job.dtype, "device": device,
            "arch": asked.job.arch, "graph": options.graph and asked.job.on_gpu,
            "noise": asked.noise, "timeout_s": asked.patience.timeout,
            "budget_s": asked.budget, "peers": list(asked.peers), "threads": cores(),
        },
        environment={"before": before},
    )  # fmt: skip


def ceiling(work: Work, taken: Taken, dtype: str) -> Ceiling:
    """The best rate of a copy or a product: that of the fastest sample."""
    median, least = float(np.median(taken.times)), min(taken.times)
    if work.name == "copy":
        rate = 2 * work.shape[0] / least
        return Ceiling(median_s=median, samples=len(taken.times), bytes_per_s=rate)
    rate = ceilings.flops(work) / least
    return Ceiling(
        median_s=median, samples=len(taken.times), flops_per_s=rate, shape=list(work.shape),
        dtype=dtype,
    )  # fmt: skip


def valid(row: Result, report: Report) -> Result:
    """``row`` where ``report`` can hold it; else one that failed, with the reason."""
    try:
        replace(report, results=[row]).to_json()
    except ValueError as error:
        return Result(
            name=row.name, peer=row.peer, batch=row.batch, size=row.size, dtype=row.dtype,
            status="failed", reason=f"what it measured makes no sense: {error}",
        )  # fmt: skip
    return row


def line(row: Result | None, work: Work, name: str) -> str:
    """What is known now, for a reader of standard error."""
    start = f"{work.name}, batch {work.batch}, {name}: "
    if row is None:
        return f"{start}profiled"
    if row.median_s is None:
        return start + (row.reason or row.status)
    return f"{start}{row.median_s * 1e3:.4g} ms, {row.samples} samples"
