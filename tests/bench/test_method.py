"""How benchmarks measure: statistics, clocks, turns, correctness."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.bench_fakes import FLAT, TINY, Scripted

from vgg_cuda import reference
from vgg_cuda.bench import inputs, machine, truth
from vgg_cuda.bench.clock import EventClock, HostClock
from vgg_cuda.bench.layers import Layer, network_layers, parse_shape, selected
from vgg_cuda.bench.measure import MIN_LATE, Measurements, Timeouts, measure
from vgg_cuda.bench.options import Options, resolve
from vgg_cuda.bench.report import Ceiling
from vgg_cuda.bench.results import profile_results
from vgg_cuda.bench.samples import MAX_SAMPLES, MIN_SAMPLES, enough, interval, summarize
from vgg_cuda.bench.work import Work
from vgg_cuda.bench.workers import WorkerDied
from vgg_cuda.configs import Config, get_config
from vgg_cuda.weights import he_weights

# ---- Statistics ----


@pytest.mark.parametrize(
    ("n", "first", "last"),
    [(1, 1, 1), (5, 1, 5), (6, 1, 6), (8, 1, 8), (9, 2, 8), (10, 2, 9), (20, 6, 15), (100, 40, 61)],
)
def test_interval_of_the_median(n: int, first: int, last: int) -> None:
    """Compare with tables of the sign test (Conover, Practical Nonparametric Statistics, A3)."""
    assert interval(n) == (first - 1, last - 1)


@pytest.mark.parametrize("n", [6, 7, 25, 400, 2000])
def test_the_interval_holds_the_median_in_95_percent(n: int) -> None:
    low, high = interval(n)

    def inside(low: int, high: int) -> float:
        return sum(math.comb(n, k) for k in range(low + 1, high + 1)) / 2**n

    assert inside(low, high) >= 0.95
    assert (low == 0 and high == n - 1) or inside(low + 1, high - 1) < 0.95


def test_summary() -> None:
    rng = np.random.default_rng(0)
    times = rng.gamma(4.0, 1e-3, 101)
    found = summarize(list(times))
    assert found.median == np.median(times)
    expected = {f"p{p}": np.percentile(times, p) for p in (50, 90, 95, 99)}
    assert found.percentiles == pytest.approx(expected)
    assert found.iqr == pytest.approx(np.subtract(*np.percentile(times, [75, 25])))
    low, high = found.confidence
    assert low < found.median < high
    assert found.noise == pytest.approx((high - low) / found.median)
    assert summarize([0.5]).confidence == (0.5, 0.5)
    with pytest.raises(ValueError, match="no times"):
        summarize([])


def test_enough() -> None:
    steady = [1.0] * MIN_SAMPLES
    assert not enough(steady[:-1], 0.5)
    assert enough(steady, 0.001)
    wild = [1.0, 2.0] * 10
    assert not enough(wild, 0.03)
    assert enough(wild, 2.0)
    assert enough([1.0, 2.0] * (MAX_SAMPLES // 2), 0.001)


# ---- Clocks ----


def test_host_clock_reads_twice() -> None:
    readings = iter([10.0, 10.25])
    assert HostClock(lambda: next(readings)).time(lambda: None).total_s == 0.25


class FakeGpu:
    """A stream with given durations of work, and its events."""

    def __init__(self) -> None:
        self.host = self.busy_until = 0.0
        self.log: list[str] = []

    def enqueue(self, seconds: float, host: float = 0.0) -> None:
        self.host += host
        self.busy_until = max(self.busy_until, self.host) + seconds

    def event(self) -> Any:
        gpu = self

        class Event:
            at = math.nan

            def record(self, stream: object) -> None:
                assert stream == "a stream"
                gpu.log.append("record")
                self.at = gpu.busy_until = max(gpu.busy_until, gpu.host)

            def synchronize(self) -> None:
                gpu.log.append("synchronize")
                gpu.host = max(gpu.host, self.at)

        return Event()

    def clock(self) -> EventClock:
        def elapsed_ms(start: Any, stop: Any) -> float:
            return float(1e3 * (stop.at - start.at))

        return EventClock(self.event, elapsed_ms, "a stream", lambda: self.host)


def test_event_clock_separates_device_and_host() -> None:
    """Earlier work hides the enqueueing, and is not in the time."""
    gpu = FakeGpu()
    clock = gpu.clock()
    gpu.enqueue(5.0)  # clearing a cache
    span = clock.time(lambda: gpu.enqueue(2.0, host=0.5))
    assert (span.total_s, span.enqueue_s) == (2.0, 0.5)
    assert gpu.log == ["record", "record", "synchronize"]
    assert gpu.host == 7.0
    late = clock.time(lambda: gpu.enqueue(0.25, host=1.0))  # the GPU waits for the host
    assert (late.total_s, late.enqueue_s) == (1.25, 1.0)
    first, second = clock.mark(), None
    gpu.enqueue(3.0)
    second = clock.mark()
    assert clock.seconds(first, second) == 3.0


# ---- Turns ----

WORK = Work("model", "net", (2, 32, 32, 3))
TIMEOUTS = Timeouts(sampling=10.0, prepare=60.0, grace=5.0)


def run(*workers: Any, **options: Any) -> dict[str, Any]:
    given: dict[str, Any] = {"exact": "exact.npy", "bound": 1e-5, "noise": 0.01}
    return measure(WORK, workers, timeouts=TIMEOUTS, **given | options)


def test_programs_take_turns_until_precise() -> None:
    log: list[tuple[str, str]] = []
    steady = Scripted("steady", [1.0] * 100, log=log)
    noisy = Scripted("noisy", [1.0, 1.3] * 4 + [1.0] * 100, log=log)
    found = run(steady, noisy, noise=0.1, now=lambda: 0.0)
    assert len(found["steady"].times) == MIN_SAMPLES
    assert found["noisy"].status == "ok"
    assert MIN_SAMPLES + 5 < len(found["noisy"].times) < 30
    assert summarize(found["noisy"].times).noise <= 0.1
    samples = [name for name, do in log if do == "sample"]
    assert samples[: 2 * MIN_SAMPLES] == ["steady", "noisy"] * MIN_SAMPLES
    assert set(samples[2 * MIN_SAMPLES :]) == {"noisy"}
    checks = [do for _, do in log[:4]]
    assert checks == ["prepare", "check"] * 2  # both before anything is timed
    assert [name for name, do in log if do == "finish"] == ["steady", "noisy"]


def test_sampling_stops_at_timeout() -> None:
    now = [0.0]
    slow = Scripted("slow", [4.0, 5.0] * 50, now=now)
    found = run(slow, now=lambda: now[0])
    assert len(found["slow"].times) == MIN_LATE
    now = [0.0]
    noisy = Scripted("noisy", [1.0, 2.0] * 50, now=now)
    found = run(noisy, now=lambda: now[0])
    assert sum(found["noisy"].times) == pytest.approx(10, abs=2)
    assert found["noisy"].status == "ok"


@pytest.mark.parametrize(
    ("error", "status", "reason"),
    [
        (1e-6, "ok", None),
        (2e-5, "wrong", "relative L2 error 2.0e-05 exceeds 1.0e-05"),
        (None, "wrong", "the result is not finite or has another size"),
    ],
)
def test_wrong_result_is_not_timed(error: Any, status: str, reason: str | None) -> None:
    worker = Scripted("x", itertools.repeat(1.0), error=error)  # type: ignore[arg-type]
    taken = run(worker)["x"]
    assert (taken.status, taken.reason, taken.relative_error) == (status, reason, error)
    assert bool(taken.times) == (status == "ok")
    assert (("x", "sample") in worker.log) == (status == "ok")


@pytest.mark.parametrize("when", ["prepare", "check", "warm", "sample", "finish"])
@pytest.mark.parametrize("status", ["failed", "timeout"])
def test_dead_program_does_not_stop_others(when: str, status: str) -> None:
    lost = Scripted("lost", [1.0] * 100, lost={when: WorkerDied(status, "planted")})
    fine = Scripted("fine", [1.0] * 100)
    found = run(lost, fine)
    assert (found["lost"].status, found["lost"].reason) == (status, "planted")
    assert not found["lost"].times
    assert found["fine"].status == "ok"
    assert len(found["fine"].times) == MIN_SAMPLES


def test_timeouts_end_a_hang() -> None:
    worker = Scripted("x", [1.0] * 100)
    run(worker)
    asked = dict(worker.timeouts)
    assert asked["prepare"] == asked["check"] == 60
    assert asked["warm"] == 15
    assert asked["sample"] == pytest.approx(15.003)


def test_counters_replace_times() -> None:
    worker = Scripted("x", [], said={"counters": {"mma": 3}})
    taken = run(worker)["x"]
    assert (taken.status, taken.times, taken.info["counters"]) == ("ok", [], {"mma": 3})


# ---- Correctness ----


@pytest.mark.parametrize("config", [TINY, FLAT], ids=lambda config: config.name)
def test_truth_is_the_reference(config: Any) -> None:
    weights = he_weights(config, 1)
    x = inputs.pictures((2, 32, 32, 3), 0)
    exact, bound = truth.truth(network_layers(config), weights.tensors, x, "float32")
    expected = reference.forward(weights, x)[config.last]
    np.testing.assert_array_equal(exact.reshape(expected.shape), expected)
    assert bound == truth.LOGITS


@pytest.mark.parametrize(("dtype", "digits"), [("float16", 11), ("bfloat16", 8), ("tf32", 11)])
def test_error_bound_follows_precision(dtype: str, digits: int) -> None:
    layers = network_layers(TINY)
    tensors = he_weights(TINY, 1).tensors
    x = inputs.pictures((2, 32, 32, 3), 0)
    _, bound = truth.truth(layers, tensors, x, dtype)
    assert truth.LOGITS + 2.0 ** -(digits + 2) < bound < 2.0 ** -(digits - 3)
    one, alone = truth.truth(layers[:1], tensors, x, dtype)
    assert truth.LOGITS < alone < 2.0 ** -(digits - 2)
    assert one.shape == (2, 16, 16, 8)


def test_roundings() -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes")
    x = np.random.default_rng(0).standard_normal(10_000, dtype=np.float32)
    x[:4] = [0.0, -0.0, 1 + 2**-8, 65504 * 2]
    low = x.astype(ml_dtypes.bfloat16).astype(np.float64)
    np.testing.assert_array_equal(truth.stored(x, "bfloat16"), low)
    np.testing.assert_array_equal(truth.stored(x, "tf32"), x.astype(np.float64))
    from support.kernel_reference import factors

    np.testing.assert_array_equal(truth.factors(x, "tf32"), factors(x, "tf32"))


def test_relative_error_of_repeated_images() -> None:
    exact = np.random.default_rng(0).standard_normal((3, 2, 2, 5))
    got = exact[np.arange(7) % 3].astype(np.float32)
    assert truth.relative_l2(got, exact) < 1e-7
    assert truth.relative_l2(got.reshape(7, -1), exact) < 1e-7
    swapped = got.copy()
    swapped[[3, 4]] = swapped[[4, 3]]
    assert truth.relative_l2(swapped, exact) > 0.1
    assert truth.relative_l2(2 * got, exact) == pytest.approx(1)
    got[6, 0, 0, 0] = np.nan
    assert math.isnan(truth.relative_l2(got, exact))
    assert math.isnan(truth.relative_l2(got[:, :1], exact))
    assert math.isnan(truth.relative_l2(got[:2], exact))


def test_large_results_compare_some_images(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(truth, "MAX_COMPARED", 40)
    exact = np.ones((3, 5))
    got = np.ones((100, 5), np.float32)
    got[-1] = 2
    assert truth.relative_l2(got, exact) > 0.1


# ---- Inputs ----


def test_pictures_resemble_photographs() -> None:
    x = inputs.pictures((7, 32, 40, 3), 0)
    assert x.shape == (7, 32, 40, 3)
    assert x.dtype == np.float32
    assert abs(x[:3].std() - 1) < 0.01
    neighbours = np.corrcoef(x[:, :, 1:].ravel(), x[:, :, :-1].ravel())[0, 1]
    assert neighbours > 0.5
    np.testing.assert_array_equal(x[0], x[3])
    np.testing.assert_array_equal(x[:2], inputs.pictures((2, 32, 40, 3), 0))
    assert not (x[0] == x[1]).all()
    assert not (x == inputs.pictures((7, 32, 40, 3), 1)).all()


def test_copies_exceed_the_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inputs, "cache_bytes", lambda: 1 << 20)
    assert inputs.copies(1 << 18, False) == 8
    assert inputs.copies(1 << 30, False) == 1
    assert inputs.copies(1, False) == inputs.MAX_COPIES
    assert inputs.copies(32 << 20, True) == 8
    first, second = inputs.in_turn(np.zeros(3), 2)
    assert not np.shares_memory(first, second)


def test_cache_size_is_read_from_sys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inputs, "CACHES", tmp_path)
    assert inputs.cache_bytes() == inputs.DEFAULT_CACHE_BYTES
    for i, text in enumerate(["48K", "2M", "odd", "1024K"]):
        (tmp_path / f"index{i}").mkdir()
        (tmp_path / f"index{i}" / "size").write_text(f"{text}\n")
    assert inputs.cache_bytes() == 2 << 20


# ---- Layers ----


def test_flops_count_direct_convolutions() -> None:
    config = get_config("vgg16")
    work = Work("model", "vgg16", (1, 224, 224, 3), tuple(network_layers(config)))
    assert work.flops() == 2 * 15_470_264_320
    weights = 138_357_544 - sum(
        layer.outputs for layer in work.layers if layer.multiplies
    )  # biases are float32 whatever the dtype
    assert work.nbytes("float16") < work.nbytes("float32") < 2.1 * work.nbytes("float16")
    assert work.nbytes("float16") > 2 * weights
    conv1_2 = work.shapes()[1]
    assert conv1_2 == (Layer("conv1_2", "conv", 64, 64, True, True), (1, 224, 224, 64))
    assert conv1_2[0].out_shape(conv1_2[1]) == (1, 112, 112, 64)
    assert work.shapes()[-3][1] == (1, 25088)


def test_layers_by_name() -> None:
    config = get_config("vgg16")
    assert selected(config, ["fc6", "conv3_2", "fc6"]) == ["fc6", "conv3_2"]
    assert len(selected(config, [])) == 16
    for name, close in (("conv3_9", "conv3_3"), ("avgpool", ""), ("", "")):
        with pytest.raises(ValueError, match=f"vgg16 has no layer '{name}'.*{close}"):
            selected(config, [name])


def test_shapes() -> None:
    layer, shape = parse_shape("1,7,5,16,32", relu=True, pool=True)
    assert shape == (1, 7, 5, 16)
    assert layer == Layer("n1-h7-w5-c16-k32-relu-pool", "conv", 16, 32, True, True)
    assert layer.out_shape(shape) == (1, 3, 2, 32)
    for text in ("", "1,2,3,4", "1,2,3,4,5,6", "1,2,3,4,x", "0,2,3,4,5", "1,2,3,4,4294967296"):
        with pytest.raises(ValueError, match="expected n,h,w,c,k"):
            parse_shape(text, relu=False, pool=False)
    with pytest.raises(ValueError, match="h and w of 2 or more before a pool"):
        parse_shape("1,1,5,16,32", relu=True, pool=True)


@pytest.mark.parametrize("kernel", ["maxpool", "maxpool2x2"])
@pytest.mark.parametrize("pooling", ["avg", "max"])
def test_unfused_pools_have_layer_names(kernel: str, pooling: Any) -> None:
    config = Config("pools", (8, "M", "M", "M", 8), (), pool_grid=2, pooling=pooling)
    work = Work("profile", "pools", (2, 32, 32, 3), tuple(network_layers(config)))
    last = {"avg": "avgpool", "max": "adaptive_maxpool"}[pooling]
    steps = [["conv1_1", "conv1_1 pool1"], *[[None, kernel]] * 2, ["conv4_1"] * 2, [None, last]]
    said = {"steps": [{"layers": [a] if a else [], "name": b} for a, b in steps]}
    taken = Measurements(info=said, times=[5.0], parts=[[1.0] * 5], relative_error=0.0)
    ceilings = {
        "copy": Ceiling(median_s=1.0, samples=6, bytes_per_s=1e9),
        "matmul": Ceiling(median_s=1.0, samples=6, flops_per_s=1e9),
    }
    rows = profile_results(work, taken, dtype="float32", size=32, ceilings=ceilings)
    names = ["conv1_1 pool1", "pool2", "pool3", "conv4_1", f"{pooling}pool"]
    assert [row.name for row in rows] == names
    assert rows[1].bytes == 2 * 8 * 4 * (16 * 16 + 8 * 8)
    assert all(row.floor_s for row in rows)
    assert rows[2].bound == "memory"


# ---- The machine ----


def test_nvidia_smi_fields(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / "nvidia-smi"
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert set(machine.nvidia_smi(0).values()) == {None}
    answer = "580.65, 1980, [N/A], 2619, 41, 119.25, 700.00, 0x0000000000000004, 80000"
    script.write_text(f'#!/bin/sh\necho "$@" > "$0.asked"\necho "{answer}"\n')
    script.chmod(0o755)
    found = machine.nvidia_smi(1)
    assert found["driver"] == "580.65"
    assert found["sm_clock_max_mhz"] is None
    assert (found["power_w"], found["temperature_c"]) == (119.25, 41)
    assert "--id=1 " in (tmp_path / "nvidia-smi.asked").read_text()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-a,GPU-b")
    machine.nvidia_smi(1)
    assert "--id=GPU-b " in (tmp_path / "nvidia-smi.asked").read_text()
    for broken in ("exit 3", "echo one, two", "sleep 9"):
        script.write_text(f"#!/bin/sh\n{broken}\n")
        monkeypatch.setattr(machine, "TIMEOUT_S", 0.3)
        assert set(machine.nvidia_smi(0).values()) == {None}


# ---- Options ----


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"batches": (1, 0)}, "--batch: expected numbers of 1 or more, got 0"),
        ({"batches": (2, 2)}, "--batch: expected each once"),
        ({"size": 31}, "--size: vgg16: expected H and W >= 32"),
        ({"network": "vgg15"}, "unknown network 'vgg15': expected one of vgg11"),
        ({"dtype": "float8"}, "float8"),
        ({"dtype": "float16", "device": "cpu"}, "dtype: expected float32 on cpu, got 'float16'"),
        ({"device": "tpu"}, "got 'tpu'"),
        ({"peers": ("tensorrt",)}, "--peers: expected some of torch, compile, onnxruntime, jax"),
        ({"peers": ("vgg_cuda",)}, "--peers: expected some of"),
        ({"peers": ("no.such.module",)}, "got 'no.such.module'"),
        ({"timeout": 0.0}, "--timeout: expected a positive number, got 0"),
        ({"noise": -1.0}, "--noise: expected a positive number, got -1"),
        ({"budget": math.inf}, "--budget: expected a positive number, got inf"),
        ({"budget": 0.001}, "--budget: expected 1 s or more, got 0.001"),
        (
            {"kind": "kernel", "shapes": ("1,8,8,3,8",), "network": "vgg15"},
            "unknown network 'vgg15': expected one of vgg11",
        ),
        ({"timeout": math.nan}, "--timeout: expected a positive number, got nan"),
        ({"kind": "kernel", "layers": ("conv9_9",)}, "--layer: vgg16 has no layer 'conv9_9'"),
        ({"kind": "kernel", "pool": True}, "--pool and --relu: expected with --shape"),
        ({"kind": "kernel", "shapes": ("1,2,3",)}, "--shape: expected n,h,w,c,k"),
        (
            {"kind": "kernel", "shapes": ("1,8,8,3,8",), "layers": ("fc6",)},
            "--layer and --shape: expected one of them",
        ),
        (
            {"kind": "kernel", "shapes": ("1,8,8,3,8",), "batches": (2,)},
            "--shape: expected no --batch or --size with it",
        ),
        ({"batches": (10**6,)}, "pixels"),
    ],
)
def test_bad_options_are_refused(given: dict[str, Any], said: str) -> None:
    options = Options(**{"kind": "model", "device": "cpu"} | given)
    with pytest.raises(ValueError, match=r"(?s).*") as error:
        resolve(options)
    assert said in str(error.value)
    assert "\n" not in str(error.value)
