"""``vgg-cuda bench model`` as a process: programs side by side, and all that can go wrong."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from support.bench_fakes import TINY, locally, tiny_file, write_adapters

from vgg_cuda.bench import options, suite
from vgg_cuda.bench.options import Options, resolve
from vgg_cuda.bench.report import Report, read
from vgg_cuda.bench.suite import Suite
from vgg_cuda.system.interruption import Interrupted, Interruption

pytestmark = pytest.mark.usefixtures("_small_ceilings")


@pytest.fixture
def _small_ceilings(monkeypatch: pytest.MonkeyPatch) -> None:
    """For what runs in this process."""
    from vgg_cuda.bench.peers import ceilings

    monkeypatch.setattr(ceilings, "COPY_BYTES", 1 << 20)
    monkeypatch.setattr(ceilings, "SIDE", 64)


@pytest.fixture
def planted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Adapters that misbehave are importable, here and in children."""
    write_adapters(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv(
        "PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    )
    return tmp_path


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "vgg_cuda", "bench", *words]


def run(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*words), cwd=folder, capture_output=True, text=True, timeout=100, check=False
    )


def rows(report: Report) -> dict[tuple[str, int], Any]:
    return {(result.peer, result.batch): result for result in report.results}


def test_programs_side_by_side(tmp_path: Path) -> None:
    """From the command line to the file, with the peers that are installed."""
    pytest.importorskip("torch")
    peers = ["torch", *(["onnxruntime"] if find_spec("onnxruntime") and find_spec("onnx") else [])]
    output, weights = tmp_path / "r.json", tiny_file(tmp_path)
    words = ["model", weights, "--size", "32", "--batch", "1,3", "--peers", ",".join(peers)]
    ended = run(
        tmp_path, *words, "--device", "cpu", "--timeout", "0.3", "--seed", "5", "--output", "r.json"
    )
    assert (ended.returncode, ended.stderr) == (0, "wrote r.json\n"), ended.stderr
    assert "vgg_cuda" in ended.stdout
    report = read(output)
    assert (report.kind, report.device_kind, report.seed) == ("model", "cpu", 5)
    assert not report.interrupted
    assert {*peers, "numpy", "python", "vgg_cuda"} <= set(report.versions)
    assert report.environment["before"]["load_average"]
    assert report.environment["after"]["load_average"]
    assert report.environment["switches"]["tune"] == "cached"
    assert report.settings["timeout_s"] == 0.3
    found = rows(report)
    assert list(found) == [(peer, batch) for batch in (1, 3) for peer in ["vgg_cuda", *peers]]
    for (peer, batch), each in found.items():
        assert each.status == "ok", each.reason
        assert 0 < each.relative_error <= 2e-5
        assert each.median_s > 0
        assert each.samples >= 3
        low, high = each.confidence_s
        assert low <= each.median_s <= high
        assert each.images_per_s == pytest.approx(batch / each.median_s)
        assert each.ratio == pytest.approx(each.median_s / found["vgg_cuda", batch].median_s)
        assert each.load_s > 0
        assert each.peak_bytes > 10 << 20
        assert each.device_s is each.enqueue_s is each.host_to_device_s is None
        assert each.of_floor == pytest.approx(each.floor_s / each.median_s)
        assert each.flops == batch * found[peer, 1].flops
    assert set(report.ceilings) == {"copy", "matmul"}
    assert report.ceilings["copy"].bytes_per_s
    assert report.ceilings["matmul"].flops_per_s


def test_bad_programs_do_not_stop_others(planted: Path) -> None:
    """Each program runs in a separate process, and its output is not taken for a reply."""
    names = ["right", "wrong", "hangs", "crashes", "raises", "memory", "killed"]
    names += ["absent", "broken", "prints"]
    peers = ",".join(f"planted.{name}" for name in names)
    words = ["model", tiny_file(planted), "--size", "32", "--peers", peers, "--device", "cpu"]
    words += ["--timeout", "0.2", "--prepare-timeout", "60", "--output", "r.json"]
    script = (
        "from vgg_cuda.bench import measure, options; from vgg_cuda.bench.measure import Timeouts\n"
        "options.Timeouts = lambda sampling, prepare: Timeouts(sampling, prepare, grace=2.0)\n"
        "import sys; sys.argv[0] = 'vgg-cuda'; from vgg_cuda.cli.main import main; main()"
    )
    ended = subprocess.run(
        [sys.executable, "-c", script, "bench", *words],
        cwd=planted, capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    assert ended.returncode == 1, ended.stderr  # a result is wrong
    found = {
        peer.removeprefix("planted."): each
        for (peer, _), each in rows(read(planted / "r.json")).items()
    }
    said = {name: (each.status, each.reason) for name, each in found.items()}
    assert said.pop("vgg_cuda") == said.pop("right") == said.pop("prints") == ("ok", None)
    assert said.pop("wrong")[0] == "wrong"
    assert found["wrong"].relative_error == pytest.approx(1)
    assert said.pop("hangs") == ("timeout", "no answer in 2.2 s")
    assert said.pop("crashes") == ("failed", "killed by SIGSEGV")
    assert said.pop("raises") == ("failed", "RuntimeError: planted: out of memory")
    status, reason = said.pop("memory")
    assert status == "failed"
    assert "Unable to allocate" in reason
    assert said.pop("killed") == ("failed", "killed by SIGKILL, probably out of memory")
    assert said.pop("absent") == ("n/a", "not here")
    status, reason = said.pop("broken")
    assert status == "failed"
    assert "No module named 'no_such_library'" in reason
    assert not said
    for name in set(names) - {"right", "prints"}:
        assert found[name].median_s is None
        assert found[name].ratio is None


def test_interrupted_run_writes_its_measurements(planted: Path) -> None:
    """And leaves no process behind, not even one that a worker started."""
    words = ["model", tiny_file(planted), "--size", "32", "--batch", "1,2", "--device", "cpu"]
    words += ["--timeout", "0.1", "--peers", "planted.right,planted.spawns", "--output", "r.json"]
    spawned = planted / "pid"
    env = {**os.environ, "SPAWNED": str(spawned), "TMPDIR": str(planted)}
    process = subprocess.Popen(
        command(*words), cwd=planted, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    end = time.monotonic() + 60
    while not (spawned.exists() and spawned.read_text()):
        assert time.monotonic() < end, "it was never measured"
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    time.sleep(1.0)  # the others are done
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    assert errors.decode() == "interrupted: the measurements until then are reported\n"
    assert read(planted / "r.json").interrupted
    assert children
    for pid in [*children, spawned.read_text()]:
        assert gone(int(pid)), pid
    assert not list(planted.glob("vgg-cuda-bench-*"))


def gone(pid: int) -> bool:
    end = time.monotonic() + 5
    while time.monotonic() < end:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return True
        if state in "ZX":
            return True
        time.sleep(0.05)
    return False


def test_workers_end_with_a_killed_parent(planted: Path) -> None:
    words = ["model", tiny_file(planted), "--size", "32", "--device", "cpu"]
    env = {**os.environ, "TMPDIR": str(planted)}
    process = subprocess.Popen(
        command(*words, "--peers", "planted.hangs_early"), cwd=planted, env=env,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    path, end = Path(f"/proc/{process.pid}/task/{process.pid}/children"), time.monotonic() + 60
    while len(children := path.read_text().split()) < 3:  # ceilings, vgg_cuda, the peer
        assert time.monotonic() < end
        time.sleep(0.05)
    process.kill()
    process.wait(10)
    assert all(gone(int(pid)) for pid in children)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["model", "vgg16", "--batch", "0"], "--batch: expected numbers of 1 or more, got 0"),
        (["model", "vgg16", "--batch", "1,x"], "--batch: expected numbers separated by commas"),
        (["model", "nowhere.safetensors"], "unknown network 'nowhere.safetensors'"),
        (["model", "vgg16", "--output", "r.xml"], "output: expected a name ending in .json"),
        (["model", "vgg16", "--output", "no/folder/r.json"], "no/folder/r.json"),
        (["model", "vgg16", "--output", "/proc/r.json"], "/proc/r.json"),
        (["model", "vgg16", "--plot", "p.gif"], "plot: expected a name ending in .png"),
        (["kernel", "--layer", ""], "vgg16 has no layer ''"),  # not all layers
        (["kernel", "--layer", "conv3_9"], "vgg16 has no layer 'conv3_9'; did you mean conv3_3"),
        (["model", "vgg16", "--peers", "tensorrt"], "--peers: expected some of torch, compile"),
    ],
)
def test_bad_options_print_one_line(
    words: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from typer.testing import CliRunner

    from vgg_cuda.cli.main import app

    def never(*_: Any) -> Any:
        raise AssertionError("weights were drawn, or something was run")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(suite, "Suite", never)
    monkeypatch.setattr(options, "he_weights", never)
    result = CliRunner().invoke(app, ["bench", *words, "--device", "cpu"])
    assert result.exit_code == 2, result.output
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: ")
    assert said in line
    assert not list(tmp_path.iterdir())


# ---- In this process ----


def asked(folder: Path, **given: Any) -> options.Settings:
    usual = {"kind": "model", "network": tiny_file(folder), "size": 32, "device": "cpu"}
    return resolve(Options(**usual | {"timeout": 0.05, "peers": (), "noise": 1.0} | given))


def test_budget_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first have their time; what has none is listed with the reason."""
    found = asked(tmp_path, batches=(1, 2, 3), budget=100.0, timeout=20.0)
    runner = Suite(found, Interruption(), start=locally([]))
    left = iter([100.0, 50.0, 50.0, 10.0, 10.0, 0.5])
    monkeypatch.setattr(runner, "_left", lambda: next(left))
    seen = []
    real = suite.measure

    def measured(work: Any, *arguments: Any, **named: Any) -> Any:
        if named["exact"] is not None:
            seen.append(named["timeouts"].sampling)
        return real(work, *arguments, **named | {"noise": 100.0})

    monkeypatch.setattr(suite, "measure", measured)
    report = runner.run()
    assert seen == [pytest.approx(50 / 3), pytest.approx(10 / 2)]
    statuses = [(each.batch, each.status, each.reason) for each in report.results]
    assert statuses == [
        (1, "ok", None), (2, "ok", None), (3, "n/a", "no time: the budget is 100 s"),
    ]  # fmt: skip
    Report.to_json(report)


def test_crashed_worker_restarts_for_next_work(planted: Path) -> None:
    log: list[tuple[str, str]] = []
    found = asked(planted, batches=(1, 2, 3, 4), peers=("planted.right",))
    started = []

    def start(name: str, stop: Interruption) -> Any:
        worker = locally(log)(name, stop)
        if name == "planted.right":
            started.append(worker)
            worker.alive = False  # as after a crash
        return worker

    report = Suite(found, Interruption(), start=start).run()
    assert len(started) == 1 + suite.MAX_RESTARTS
    statuses = [each.status for each in report.results if each.peer == "planted.right"]
    assert statuses == ["ok", "ok", "failed", "failed"]


@pytest.mark.parametrize("after", [3, 5, 8])
def test_interruption_anywhere_gives_a_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    log: list[tuple[str, str]] = []
    stop = Interruption()
    workers = []

    def start(name: str, stop: Interruption) -> Any:
        worker = locally(log)(name, stop)
        receive = worker.receive

        def receiving(timeout: float) -> Any:
            if len(log) >= after:
                raise Interrupted
            return receive(timeout)

        worker.receive = receiving
        workers.append(worker)
        return worker

    report = Suite(asked(tmp_path, batches=(1, 2)), stop, start=start).run()
    assert report.interrupted
    assert not any(worker.alive for worker in workers)
    Report.to_json(report)


def test_second_signal_ends_the_process(tmp_path: Path) -> None:
    script = (
        "import os, signal, sys\n"
        "from vgg_cuda.system.interruption import Interruption, Interrupted\n"
        "stop = Interruption(); stop.on_second_signal(lambda: print('killed', flush=True))\n"
        "before = signal.getsignal(signal.SIGTERM)\n"
        "with stop.watching():\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "    try: stop.check()\n"
        "    except Interrupted: print('noted', stop.number, flush=True)\n"
        "    if len(sys.argv) > 1: os.kill(os.getpid(), signal.SIGINT)\n"
        "assert signal.getsignal(signal.SIGTERM) is before\n"
    )
    for words, code, printed in (([], 0, "noted 15\n"), (["x"], 130, "noted 15\nkilled\n")):
        ended = subprocess.run(
            [sys.executable, "-c", script, *words], capture_output=True, text=True, check=False
        )
        assert (ended.returncode, ended.stdout) == (code, printed), ended.stderr


@pytest.mark.emulator
def test_emulator_reports_counters(tmp_path: Path) -> None:
    found = asked(tmp_path, device="emulator", dtype="float16", peers=None)
    assert found.peers == ()
    log: list[tuple[str, str]] = []
    report = Suite(found, Interruption(), start=locally(log)).run()
    (row,) = report.results
    assert (row.status, row.median_s, report.device_kind) == ("ok", None, "emulator")
    assert row.counters is not None
    assert row.counters["mma"] > 0
    assert row.counters["useful_macs"] == row.flops / 2
    assert 0 < row.relative_error < 1e-2
    assert not report.ceilings
    assert {do for _, do in log} == {"open", "prepare", "check"}
    Report.to_json(report)
    with pytest.raises(
        ValueError, match="--device emulator: expected at most 2e\\+08 multiply-adds"
    ):
        resolve(Options("model", device="emulator"))


def test_all_kinds_find_a_planted_fault(tmp_path: Path) -> None:
    """A planted fault in a kernel: no time, and the exit status says so."""
    from vgg_cuda.backends import cpu

    real = cpu.CpuBackend.linear
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cpu.CpuBackend, "linear", lambda *a, **k: real(*a, **k) * 1.001)
        for kind in ("model", "profile", "kernel"):
            found = asked(tmp_path, kind=kind, layers=("fc6",) if kind == "kernel" else ())
            report = Suite(found, Interruption(), start=locally([])).run()
            (row,) = report.results
            assert (row.status, row.median_s) == ("wrong", None)
            assert "exceeds 2.0e-05" in row.reason
            assert json.loads(Report.to_json(report))["results"][0]["relative_error"] > 1e-4


def test_fixed_size_networks_use_their_size(tmp_path: Path) -> None:
    from dataclasses import replace

    config = replace(TINY, name="flat_head", pooling="none", input_size=(64, 32))
    found = asked(tmp_path, network=tiny_file(tmp_path, config), size=None)
    assert found.works[0].shape == (1, 64, 32, 3)
    assert found.size is None
    (row,) = Suite(found, Interruption(), start=locally([])).run().results
    assert row.status == "ok", row.reason
    with pytest.raises(ValueError, match=r"--size: .*expected H from 64 to 95 and W from 32"):
        asked(tmp_path, network=tiny_file(tmp_path, config))
