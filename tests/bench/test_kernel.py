"""``vgg-cuda bench kernel``: layers alone, by name or by shape."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from gpu import one_layer
from support.bench_fakes import locally, tiny_file
from typer.testing import CliRunner

from vgg_cuda.bench import options, suite
from vgg_cuda.bench.layers import network_layers
from vgg_cuda.bench.measure import Measurements
from vgg_cuda.bench.options import Options, resolve
from vgg_cuda.bench.report import Ceiling, read
from vgg_cuda.bench.results import ceiling, empty_report, floor, result, with_ratios
from vgg_cuda.bench.suite import Suite
from vgg_cuda.bench.work import Work
from vgg_cuda.cli import bench as command
from vgg_cuda.cli.main import app
from vgg_cuda.configs import get_config
from vgg_cuda.system.cpus import get_num_threads
from vgg_cuda.system.interruption import Interruption


@pytest.fixture(autouse=True)
def _in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """No processes, small ceilings."""
    from vgg_cuda.bench.peers import ceilings

    monkeypatch.setattr(ceilings, "COPY_BYTES", 1 << 20)
    monkeypatch.setattr(ceilings, "SIDE", 64)
    made = Suite.__init__

    def init(self: Suite, asked: Any, stop: Interruption, say: Any) -> None:
        made(self, asked, stop, say, start=locally([]))

    monkeypatch.setattr(suite.Suite, "__init__", init)


def run(*words: object) -> Any:
    fast = ["--timeout", "0.02", "--noise", "1"]
    return CliRunner().invoke(app, ["bench", "kernel", *(str(word) for word in words), *fast])


def test_layers_by_name(tmp_path: Path) -> None:
    weights = tiny_file(tmp_path)
    output = tmp_path / "r.json"
    given = ["--network", weights, "--size", 32, "--batch", "1,2", "--device", "cpu"]
    quietly = ["--output", output, "--json", "--quiet"]
    ended = run(*given, "--layer", "fc6,conv2_1", "--peers", "", *quietly)
    assert ended.exit_code == 0, ended.output
    assert (ended.stdout, ended.stderr) == (output.read_text(encoding="utf-8"), "")
    report = read(output)
    assert report.kind == "kernel"
    found = [(each.name, each.batch) for each in report.results]
    assert found == [("conv2_1", 1), ("fc6", 1), ("conv2_1", 2), ("fc6", 2)]
    conv, dense, *_ = report.results
    assert conv.flops == 2 * 16 * 16 * 9 * 8 * 16
    assert conv.bytes == 4 * (16 * 16 * 8 + 9 * 8 * 16 + 8 * 8 * 16) + 4 * 16
    assert conv.kernels == ["cpu_im2col"]
    assert dense.flops == 2 * 16 * 16
    for each in report.results:
        assert each.status == "ok", each.reason
        assert each.flops_per_s == pytest.approx(each.flops / each.median_s)
        assert each.bytes_per_s == pytest.approx(each.bytes / each.median_s)
        ceilings = report.ceilings
        assert each.of_compute == pytest.approx(each.flops_per_s / ceilings["matmul"].flops_per_s)
        assert each.of_memory == pytest.approx(each.bytes_per_s / ceilings["copy"].bytes_per_s)
        assert each.bound in ("compute", "memory")
        assert each.images_per_s is None


def test_settings_contain_threads() -> None:
    asked = resolve(Options("kernel", shapes=("1,8,8,3,4",), device="cpu", peers=()))
    assert empty_report(asked).settings["threads"] == get_num_threads()


def test_all_layers_by_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = resolve(Options("kernel", tiny_file(tmp_path), size=32, device="cpu"))
    assert [work.name for work in found.works] == [
        *("conv1_1", "conv2_1", "conv3_1", "conv4_1", "conv5_1"), "fc6", "fc7",
    ]  # fmt: skip
    assert found.peers == ("torch",)
    monkeypatch.setattr(options, "he_weights", lambda *_: None)
    vgg16 = resolve(Options("kernel", device="cpu", layers=("conv1_2",), peers=()))
    assert vgg16.works[0].shape == (1, 224, 224, 64)
    assert vgg16.works[0].layers[0].pool


@pytest.mark.parametrize("more", [[], ["--relu"], ["--pool", "--relu"]], ids=" ".join)
def test_shapes(tmp_path: Path, more: list[str]) -> None:
    output = tmp_path / "r.json"
    shapes = ["--shape", "2,9,6,5,7", "--shape", "1,4,4,32,16"]
    ended = run(*shapes, *more, "--device", "cpu", "--peers", "", "--output", output)
    assert ended.exit_code == 0, ended.output
    first, second = read(output).results
    names = "".join(word.removeprefix("-") for word in sorted(more, reverse=True))
    assert first.name == f"n2-h9-w6-c5-k7{names}"
    assert (first.batch, first.size, second.batch) == (2, None, 1)
    assert first.status == second.status == "ok"
    assert first.flops == 2 * 2 * 9 * 6 * 9 * 5 * 7


@pytest.mark.emulator
def test_the_emulator_counts(tmp_path: Path) -> None:
    output = tmp_path / "r.json"
    given = ["--shape", "1,8,8,16,16", "--device", "emulator", "--dtype", "float16"]
    ended = run(*given, "--output", output)
    assert ended.exit_code == 0, ended.output
    (row,) = read(output).results
    assert row.counters["useful_macs"] == 8 * 8 * 9 * 16 * 16
    assert row.kernels
    assert row.kernels[0].startswith("conv3x3_f16")
    assert row.median_s is None
    assert "useful_macs" in ended.stdout


def test_a_wrong_kernel_has_no_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One whose last channel is off by a thousandth; the exit status is 1."""
    from vgg_cuda.backends import cpu

    real = cpu.CpuBackend.conv3x3

    def planted(self: Any, *arguments: Any, **named: Any) -> Any:
        y = real(self, *arguments, **named)
        y[..., -1] *= 1.001
        return y

    monkeypatch.setattr(cpu.CpuBackend, "conv3x3", planted)
    output = tmp_path / "r.json"
    given = ["--network", tiny_file(tmp_path), "--size", 32, "--device", "cpu", "--peers", ""]
    ended = run(*given, "--layer", "conv2_1,fc6", "--output", output)
    assert ended.exit_code == 1
    conv, dense = read(output).results
    assert (conv.status, conv.median_s, conv.samples) == ("wrong", None, None)
    assert conv.relative_error is not None
    assert 2e-5 < conv.relative_error < 1e-3
    assert dense.status == "ok"
    assert "wrong" in ended.stdout


def test_one_layer_for_a_profiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["--network", tiny_file(tmp_path), "--layer", "conv2_1", "--size", "32"]
    monkeypatch.setattr("sys.argv", ["one_layer", *words, "--device", "cpu", "--batch", "2"])
    one_layer.main()


def test_interrupted_run_exits_with_signal_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With what was measured on the screen and in the file."""
    made, seen = Interruption.check, []

    def check(self: Interruption) -> None:
        seen.append(self)
        if len(seen) == 2:  # before the second layer
            self.number = 15
        made(self)

    monkeypatch.setattr(Interruption, "check", check)
    output = tmp_path / "r.json"
    given = ["--network", tiny_file(tmp_path), "--size", 32, "--device", "cpu", "--peers", ""]
    ended = run(*given, "--output", output)
    assert ended.exit_code == 143
    report = read(output)
    assert report.interrupted
    assert [each.name for each in report.results] == ["conv1_1"]
    assert "conv1_1" in ended.stdout


# ---- From samples to a report ----

CEILINGS = {
    "copy": Ceiling(median_s=1.0, samples=6, bytes_per_s=1e9),
    "matmul": Ceiling(median_s=1.0, samples=6, flops_per_s=1e12, shape=[8, 8, 8]),
}


WHOLE = Work("model", "vgg16", (1, 224, 224, 3), tuple(network_layers(get_config("vgg16"))))
WORKS = [
    Work("kernel", layer.name, shape, (layer,))
    for layer, shape in WHOLE.shapes()
    if layer.multiplies
]


def test_floor_uses_the_binding_ceiling() -> None:
    conv, dense = WORKS[1], WORKS[-1]
    low = floor(conv, "float32", CEILINGS)
    assert low == (pytest.approx(conv.nbytes("float32") / 1e9), "memory")
    fast = {**CEILINGS, "copy": Ceiling(median_s=1.0, samples=6, bytes_per_s=1e13)}
    assert floor(conv, "float32", fast) == (pytest.approx(conv.flops() / 1e12), "compute")
    assert floor(dense, "float32", {}) is None
    total = floor(WHOLE, "float32", fast)
    assert total is not None
    parts = [floor(work, "float32", fast) for work in WORKS]
    assert total[0] >= sum(part[0] for part in parts if part)


def test_gpu_results_separate_device_and_host() -> None:
    taken = Measurements(
        times=[0.002, 0.001, 0.003] * 3, enqueue=[1e-5, 3e-5, 2e-5], relative_error=1e-4,
        info={"how": "CUDA graph", "host_to_device_s": 0.5, "peak_bytes": 7, "kernels": ["k"]},
    )  # fmt: skip
    found = result(
        WORKS[0], "vgg_cuda", taken, dtype="float16", size=224, ceilings=CEILINGS, load_s=2.0
    )
    assert (found.median_s, found.device_s, found.enqueue_s) == (0.002, 0.002, 2e-5)
    assert (found.host_to_device_s, found.how, found.load_s) == (0.5, "CUDA graph", 2.0)
    torch = result(
        WORKS[0], "torch", Measurements(times=[0.004] * 6, relative_error=1e-4), dtype="float16",
        size=224, ceilings={}, load_s=None,
    )  # fmt: skip
    assert torch.of_floor is torch.of_compute is torch.device_s is None
    ours, theirs = with_ratios([found, torch])
    assert (ours.ratio, theirs.ratio) == (1.0, 2.0)
    (alone,) = with_ratios([torch])
    assert alone.ratio is None


def test_ceilings_are_the_rates_of_the_fastest_sample() -> None:
    taken = Measurements(times=[0.5, 0.25, 2.0])
    copy = ceiling(Work("ceiling", "copy", (1000,)), taken, "float32")
    assert (copy.bytes_per_s, copy.median_s) == (2 * 1000 / 0.25, 0.5)
    product = ceiling(Work("ceiling", "matmul", (10, 10, 10)), taken, "float32")
    assert (product.flops_per_s, product.median_s) == (2 * 1000 / 0.25, 0.5)


def test_help_lists_commands() -> None:
    for words in (["bench", "--help"], ["bench", "kernel", "--help"], ["profile", "--help"]):
        ended = CliRunner().invoke(app, words)
        assert ended.exit_code == 0
    assert {info.name or info.callback.__name__ for info in command.app.registered_commands} == {
        "model", "kernel", "compare",
    }  # fmt: skip
