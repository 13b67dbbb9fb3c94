"""Results of a report from samples: medians, rates, and fractions of ceilings and floors."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from .measure import Measurements
from .peers import OURS
from .report import Ceiling, Result
from .samples import summarize
from .work import Work

Ceilings = dict[str, Ceiling]


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
