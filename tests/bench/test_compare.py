"""``bench compare`` catches a planted slowdown of 10 %, leaves noise alone, refuses the rest."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from support import bench_reports
from typer.testing import CliRunner

from vgg_cuda.bench.compare import Comparison, compare, interval
from vgg_cuda.bench.output import write
from vgg_cuda.bench.report import Ceiling, Report, Result
from vgg_cuda.cli.bench import compare as compare_command
from vgg_cuda.cli.bench_compare import as_dict, text
from vgg_cuda.cli.main import app as cli

PAIRS = 300


def pairs(
    slower: float, noise: float, samples: int, drift: float = 0.0, seed: int = 0,
    threshold: float | None = None,
) -> list[Comparison]:  # fmt: skip
    """Two runs each, whose medians also ``drift`` apart, as clocks and neighbours make them."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(PAIRS):
        old, new = (
            bench_reports.report(
                [
                    bench_reports.timed(
                        bench_reports.noisy(
                            0.17 * factor * float(np.exp(drift * rng.standard_normal())),
                            noise, samples, rng,
                        )
                    )
                ]
            )
            for factor in (1.0, slower)
        )  # fmt: skip
        found.append(compare(old, new, threshold))
    return found


def part(found: list[Comparison]) -> float:
    return sum(bool(each.regressions) for each in found) / len(found)


# Noise (the deviation of single times) and samples as runs on a shared machine with two cores have
# them: with --noise 0.03 a run goes on until the median's interval is that narrow, or time is up.
RUNS = {
    "quiet-20": (0.02, 20),
    "usual-20": (0.03, 20),
    "usual-40": (0.05, 40),
    "loud-143": (0.10, 143),
}


@pytest.mark.parametrize("run", RUNS)
def test_compare_finds_10_percent_slowdown(run: str) -> None:
    assert part(pairs(1.10, *RUNS[run], drift=0.01)) >= 0.93


@pytest.mark.parametrize("run", [*RUNS, "loud-27", "loud-6"])
def test_compare_ignores_noise(run: str) -> None:
    noise, samples = {**RUNS, "loud-27": (0.10, 27), "loud-6": (0.06, 6)}[run]
    assert part(pairs(1.0, noise, samples, drift=0.01)) <= 0.01


@pytest.mark.parametrize(("samples", "least"), [(1, 1.778), (2, 1.778), (3, 1.226), (5, 1.226)])
def test_compare_widens_few_samples(samples: int, least: float) -> None:
    assert part(pairs(1.0, 0.05, samples)) <= 0.02
    assert part(pairs(2.5, 0.05, samples)) >= 0.93
    (pair,) = compare(*two(exact(1.0, samples=samples), exact(1.2, samples=samples))).pairs
    assert pair.verdict == "same"
    assert pair.limit == pytest.approx(least, abs=5e-4)  # exp(hypot(f, f, 1.05)) of logarithms


def test_compare_zero_threshold_uses_noise_alone() -> None:
    """The interval of the ratio holds 1 in at least 95 % of all cases, so 2.5 % lie above."""
    assert part(pairs(1.0, 0.1, 40, threshold=0.0)) <= 0.05


def test_slower_means_beyond_the_limit() -> None:
    for found in pairs(1.08, 0.1, 27):
        (pair,) = found.pairs
        assert pair.ratio is not None
        assert pair.limit is not None
        assert (pair.verdict == "slower") == (pair.ratio > pair.limit)
        assert pair.limit >= 1.05


def exact(median: float, **fields: Any) -> Result:
    """A result of which every time is the same."""
    return bench_reports.timed([median] * 10, **fields)


def two(old: Result, new: Result, **fields: Any) -> tuple[Report, Report]:
    return bench_reports.report([old], **fields), bench_reports.report([new], **fields)


@pytest.mark.parametrize(
    ("device", "ratio", "verdict"),
    [
        ("cpu", 1.049, "same"), ("cpu", 1.051, "slower"), ("cpu", 0.96, "same"),
        ("cpu", 0.94, "faster"), ("cuda", 1.019, "same"), ("cuda", 1.021, "slower"),
    ],
)  # fmt: skip
def test_thresholds(device: str, ratio: float, verdict: str) -> None:
    (pair,) = compare(*two(exact(1.0), exact(ratio), device_kind=device)).pairs
    assert pair.verdict == verdict
    assert pair.ratio == pytest.approx(ratio)
    (pair,) = compare(*two(exact(1.0), exact(ratio), device_kind=device), threshold=0.5).pairs
    assert pair.verdict == "same"


def failed(status: Any) -> Result:
    return Result(
        name="vgg16", peer="vgg_cuda", batch=1, size=224, dtype="float32", status=status,
        reason="it says why",
    )  # fmt: skip


@pytest.mark.parametrize("status", ["wrong", "failed", "timeout"])
def test_broken_result_is_a_regression(status: str) -> None:
    found = compare(*two(exact(1.0), failed(status)))
    assert [pair.verdict for pair in found.regressions] == ["broken"]
    assert f"{status}: it says why" in text(found)
    assert [p.verdict for p in compare(*two(failed(status), exact(1.0))).pairs] == ["mended"]
    assert [p.verdict for p in compare(*two(failed(status), failed(status))).pairs] == [
        "not measured"
    ]


def test_unpaired_results_are_listed() -> None:
    absent = replace(failed("n/a"), peer="jax")
    old = bench_reports.report([exact(1.0), exact(1.0, batch=8), exact(1.0, peer="jax")])
    new = bench_reports.report([exact(1.0), exact(1.0, batch=16), absent])
    found = compare(old, new)
    assert [r.label for r in found.only_old] == [
        "vgg16, vgg_cuda, batch 8, size 224, float32", "vgg16, jax, batch 1, size 224, float32",
    ]  # fmt: skip
    assert [r.batch for r in found.only_new] == [16]
    assert not found.regressions
    assert "only in the old report: vgg16, jax, batch 1" in text(found)


def test_counters_are_compared_to_the_one() -> None:
    def counted(mma: int) -> Result:
        return replace(failed("ok"), reason=None, relative_error=0.0, counters={"mma": mma})

    found = compare(*two(counted(5), counted(6), device_kind="emulator"))
    assert [pair.verdict for pair in found.pairs] == ["counters differ"]
    assert "mma 5 -> 6" in text(found)
    found = compare(*two(counted(5), counted(5), device_kind="emulator"))
    assert [pair.verdict for pair in found.pairs] == ["same"]


LAYER: dict[str, Any] = {"name": "conv2_1", "flops": 2e9, "bytes": 1e7}


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"flops": 3e9}, "flops: 2e+09, then 3e+09"),
        ({"bytes": 2e7}, "bytes: 1e+07, then 2e+07"),
        ({}, "networks: digits, then vgg16"),
    ],
)
def test_other_work_of_the_same_name_is_not_comparable(change: dict[str, Any], why: str) -> None:
    old, new = two(exact(1.0, **LAYER), exact(9.0, **LAYER | change), kind="kernel")
    old.settings = {"network": "vgg16" if change else "digits"}
    new.settings = {"network": "vgg16"}
    found = compare(old, new)
    assert [pair.verdict for pair in found.pairs] == ["not comparable"]
    assert not found.regressions
    printed = text(found)
    assert f"not comparable: conv2_1, vgg_cuda, batch 1, size 224, float32: {why}" in printed
    assert "0 of 0 became slower or broke" in printed
    assert as_dict(found)["pairs"][0]["why"] == why
    broken = replace(new, results=[replace(failed("wrong"), **LAYER | change)])
    assert [pair.verdict for pair in compare(old, broken).pairs] == ["not comparable"]


@pytest.mark.parametrize("names", [("a/x.pth", "/b/x.pth"), (None, None), (None, "vgg16")], ids=str)
def test_the_same_network_elsewhere_is_compared(names: tuple[Any, Any]) -> None:
    old, new = two(exact(1.0, **LAYER), exact(9.0, **LAYER), kind="kernel")
    old.settings, new.settings = ({"network": name} for name in names)
    assert [pair.verdict for pair in compare(old, new).pairs] == ["slower"]


def test_another_way_of_calling_is_told() -> None:
    found = compare(*two(exact(1.0, how="plain calls"), exact(0.5, how="CUDA graph")))
    assert [pair.verdict for pair in found.pairs] == ["faster"]
    assert "vgg_cuda: plain calls, then CUDA graph" in found.notes


def test_machine_changes_are_noted() -> None:
    old, new = two(exact(1.0), exact(1.2))
    new.ceilings = {**old.ceilings, "copy": Ceiling(median_s=0.012, samples=9, bytes_per_s=1e10)}
    new.versions = {**old.versions, "torch": "2.14.0"}
    new.driver, new.interrupted = "580.1", True
    notes = "\n".join(compare(old, new).notes)
    assert "copy took 1.20 times as long" in notes
    assert "matmul" not in notes
    assert "torch 2.13.0+cpu, then 2.14.0" in notes
    assert "the new run was interrupted" in notes
    assert "driver None, then 580.1" in notes


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "kernel"}, "expected two reports of one kind, got model and kernel"),
        (
            {"device": "another"},
            "expected two reports of one device, got AMD EPYC, 2 cores and another",
        ),
        ({"device_kind": "cuda"}, "expected two reports of one device"),
        ({"results": []}, "expected a result with the same name, peer, batch, size, dtype"),
        (
            {"results": [exact(1.0, dtype="tf32")]},
            "expected a result with the same name, peer, batch, size, dtype",
        ),
    ],
)
def test_incomparable_reports_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        compare(bench_reports.model((1,)), replace(bench_reports.model((1,)), **change))


def test_other_devices_on_demand() -> None:
    old, new = two(exact(1.0), exact(1.2))
    new.device = "another"
    found = compare(old, new, other_device=True)
    assert len(found.regressions) == 1
    assert found.notes[0] == "different devices: AMD EPYC, 2 cores, then another"


@pytest.mark.parametrize("threshold", [-0.1, float("nan"), float("inf")])
def test_bad_thresholds(threshold: float) -> None:
    with pytest.raises(ValueError, match="threshold: expected 0 or more"):
        compare(*two(exact(1.0), exact(1.0)), threshold=threshold)


def test_extreme_times_stay_finite() -> None:
    low = replace(exact(1e-11), confidence_s=(0.0, 1e-11), samples=2)
    high = replace(exact(9e8), samples=2, confidence_s=(1.0, 9e8))
    assert interval(low)[0] > 0
    for found in (compare(*two(low, high)), compare(*two(high, low))):
        json.dumps(as_dict(found), allow_nan=False)
        text(found)


runner = CliRunner()
app = typer.Typer()
app.command("compare")(compare_command)
app.command("other")(lambda: None)


def run(*arguments: str) -> Any:
    return runner.invoke(app, ["compare", *arguments])


@pytest.fixture
def files(tmp_path: Path) -> tuple[str, str]:
    rng = np.random.default_rng(3)
    for name, factor in (("old", 1.0), ("slow", 1.1)):
        times = bench_reports.noisy(0.17 * factor, 0.03, 40, rng)
        write(bench_reports.report([bench_reports.timed(times)]), tmp_path / f"{name}.json")
    return str(tmp_path / "old.json"), str(tmp_path / "slow.json")


def test_compare_command_slowdown_exits_with_1(files: tuple[str, str]) -> None:
    found = run(*files)
    assert found.exit_code == 1, found.output
    assert "slower" in found.output
    assert "1 of 1 became slower or broke" in found.output
    assert run(files[0], files[0]).exit_code == 0
    assert run(files[1], files[0]).exit_code == 0
    assert run(*files, "--threshold", "0.3").exit_code == 0


def test_the_command_as_json(files: tuple[str, str]) -> None:
    found = run(*files, "--json")
    data = json.loads(found.stdout)
    assert data["regressions"] == 1
    assert data["pairs"][0]["verdict"] == "slower"
    assert data["pairs"][0]["ratio"] == pytest.approx(1.1, abs=0.03)


@pytest.mark.parametrize(
    "content", [None, "", "{}", '{"schema": 1}', '{"schema": 2}', "[" * 9999], ids=repr
)
def test_the_command_refuses_other_files(
    content: str | None, files: tuple[str, str], tmp_path: Path
) -> None:
    bad = tmp_path / "bad.json"
    if content is not None:
        bad.write_text(content)
    for arguments in ((files[0], str(bad)), (str(bad), files[0])):
        found = run(*arguments)
        assert found.exit_code == 2
        assert found.stderr.startswith("error: ")
        assert found.stderr.count("\n") == 1
        assert "bad.json" in found.stderr


def test_control_characters_are_escaped() -> None:
    old, new = two(exact(1.0, name="a\x1b[2J"), exact(1.0, name="a\x1b[2J"))
    new.versions = {**new.versions, "torch": "\x9b31m"}
    assert "\x1b" not in text(compare(old, new))
    assert "\x9b" not in text(compare(old, new))


def test_reports_without_common_work_fail(tmp_path: Path) -> None:
    old, new = two(exact(1.0, **LAYER), exact(1.0, **LAYER | {"flops": 3e9}), kind="kernel")
    for name, report in (("old", old), ("new", new)):
        write(report, tmp_path / f"{name}.json")
    result = CliRunner().invoke(
        cli, ["bench", "compare", str(tmp_path / "old.json"), str(tmp_path / "new.json")]
    )
    assert result.exit_code == 2
    assert "measures the same work as" in result.stderr
