"""The parts of a report: machine and settings, ceilings, and results with rates and floors."""

from __future__ import annotations

import datetime
import statistics
from collections.abc import Iterator
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from ..backends.switches import switches
from ..system.cpus import get_num_threads
from . import machine
from .measure import Measurements
from .peers import OURS
from .peers import ceilings as ceiling_works
from .report import Ceiling, Report, Result
from .samples import summarize
from .work import Work

if TYPE_CHECKING:
    from .options import Settings

Ceilings = dict[str, Ceiling]


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
            "budget_s": settings.budget, "peers": list(settings.peers),
            "threads": get_num_threads(),
        },
        environment={"before": before, "switches": asdict(switches())},
    )  # fmt: skip


def ceiling(work: Work, taken: Measurements, dtype: str) -> Ceiling:
    """Return the rate of the fastest sample of a copy or a matrix product."""
    median, fastest = statistics.median(taken.times), min(taken.times)
    samples = len(taken.times)
    if work.name == "copy":
        rate = 2 * work.shape[0] / fastest
        return Ceiling(median_s=median, samples=samples, bytes_per_s=rate)
    return Ceiling(
        median_s=median, samples=samples, flops_per_s=ceiling_works.flops(work) / fastest,
        shape=list(work.shape), dtype=dtype,
    )  # fmt: skip


def result(
    work: Work, peer: str, taken: Measurements, *, dtype: str, size: int | None, ceilings: Ceilings,
    load_s: float | None,
) -> Result:  # fmt: skip
    """Return one program's result; it has times if the status is "ok" and there are samples."""
    info, ok = taken.info, taken.status == "ok"
    found = Result(
        name=work.name, peer=peer, batch=work.batch, size=size, dtype=dtype,
        status=taken.status, reason=taken.reason, relative_error=taken.relative_error,  # type: ignore[arg-type]
        flops=float(work.flops()), bytes=float(work.nbytes(dtype)), load_s=load_s,
        how=info.get("how"), kernels=info.get("kernels"),
        counters=info.get("counters") if ok else None, peak_bytes=info.get("peak_bytes"),
    )  # fmt: skip
    if not taken.times or not ok:
        return found
    found = _with_times(found, taken.times, ceilings, floor(work, dtype, ceilings))
    on_gpu = bool(taken.enqueue)
    assert found.median_s is not None
    return replace(
        found,
        images_per_s=work.batch / found.median_s if work.kind == "model" else None,
        host_to_device_s=info.get("host_to_device_s"),
        enqueue_s=statistics.median(taken.enqueue) if on_gpu else None,
        device_s=found.median_s if on_gpu else None,
    )


def profile_results(
    work: Work, taken: Measurements, *, dtype: str, size: int | None, ceilings: Ceilings
) -> list[Result]:
    """Return a result for every step of a forward, or one for the network if it has no times."""
    if not taken.parts:
        whole = result(work, OURS, taken, dtype=dtype, size=size, ceilings=ceilings, load_s=None)
        return [whole]
    shapes = {layer.name: (layer, shape) for layer, shape in work.shapes()}
    medians = [statistics.median(column) for column in zip(*taken.parts, strict=True)]
    total = sum(medians)
    rows, names = [], set()
    pools = iter([layer.name for layer in work.layers if layer.kind == "pool"])
    for i, step in enumerate(taken.info["steps"]):
        step = _named(step, pools)
        known = [name for name in step["layers"] or [step["name"]] if name in shapes]
        its = tuple(shapes[name][0] for name in known)
        shape = shapes[known[0]][1] if its else work.shape
        part = Work("kernel", step["name"], shape, its)
        name = step["name"]
        while name in names:
            name += "'"
        names.add(name)
        row = Result(
            name=name, peer=OURS, batch=work.batch, size=size, dtype=dtype, status="ok",
            relative_error=taken.relative_error, how=taken.info.get("how"),
            kernels=step.get("kernels"), share=medians[i] / total if total else None,
            flops=float(part.flops()) if its else None,
            bytes=float(part.nbytes(dtype)) if its else None,
        )  # fmt: skip
        low = floor(part, dtype, ceilings) if its else None
        rows.append(_with_times(row, [parts[i] for parts in taken.parts], ceilings, low))
    return rows


def _named(step: dict[str, Any], pools: Iterator[str]) -> dict[str, Any]:
    """Rename a step that is a single pool from its kernel's name to its layer's.

    ``pools`` yields the layers of pools that no convolution is fused with, in order.
    """
    names = step["layers"] or [step["name"]]
    name = step["name"]
    if names in (["maxpool"], ["maxpool2x2"]):
        name = next(pools, "maxpool")  # the last one pools to a grid
    elif names == ["adaptive_maxpool"]:
        name = "maxpool"
    return step if name == step["name"] else {**step, "name": name, "layers": [name]}


def floor(work: Work, dtype: str, ceilings: Ceilings) -> tuple[float, str] | None:
    """Return the least time in seconds that the ceilings allow, and the ceiling that dominates it.

    The time is a sum over layers; None if a ceiling was not measured.
    """
    flops_per_s, bytes_per_s = _rates(ceilings)
    if flops_per_s is None or bytes_per_s is None:
        return None
    total, by = 0.0, {"compute": 0.0, "memory": 0.0}
    for layer, shape in work.shapes():
        compute = 2 * layer.macs(shape) / flops_per_s
        memory = layer.nbytes(shape, dtype) / bytes_per_s
        by["compute" if compute > memory else "memory"] += max(compute, memory)
        total += max(compute, memory)
    return total, max(by, key=lambda name: by[name])


def with_ratios(results: list[Result]) -> list[Result]:
    """Return ``results`` with the ratio of each time to this package's for the same work."""
    ours = {r.key[:1] + r.key[2:]: r.median_s for r in results if r.peer == OURS}
    found = []
    for each in results:
        mine = ours.get(each.key[:1] + each.key[2:])
        ratio = each.median_s / mine if each.median_s and mine else None
        found.append(replace(each, ratio=ratio))
    return found


def _with_times(
    found: Result, times: list[float], ceilings: Ceilings, low: tuple[float, str] | None
) -> Result:
    summary = summarize(times)
    seconds = summary.median
    flops_per_s, bytes_per_s = _rates(ceilings)
    rates: dict[str, Any] = {}
    if found.flops is not None and found.bytes is not None and seconds > 0:
        rates = {"flops_per_s": found.flops / seconds, "bytes_per_s": found.bytes / seconds}
        if flops_per_s:
            rates["of_compute"] = rates["flops_per_s"] / flops_per_s
        if bytes_per_s:
            rates["of_memory"] = rates["bytes_per_s"] / bytes_per_s
        if low is not None:
            rates |= {"floor_s": low[0], "of_floor": low[0] / seconds, "bound": low[1]}
    return replace(
        found, samples=summary.samples, median_s=seconds, iqr_s=summary.iqr,
        confidence_s=summary.confidence, percentiles_s=summary.percentiles, **rates,
    )  # fmt: skip


def _rates(ceilings: Ceilings) -> tuple[float | None, float | None]:
    """Return the matrix product's FLOP/s and the copy's bytes/s."""
    product, copy = ceilings.get("matmul"), ceilings.get("copy")
    return product and product.flops_per_s, copy and copy.bytes_per_s  # type: ignore[return-value]


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
