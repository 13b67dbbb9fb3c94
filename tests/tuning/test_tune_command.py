"""The command vgg-cuda tune, and vgg-cuda plan --tuned, on the emulator and the fake GPU."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support.tuning import MadeUpTimer, weights
from typer.testing import CliRunner, Result

from vgg_cuda import backends
from vgg_cuda.backends import why_missing
from vgg_cuda.backends.switches import switches
from vgg_cuda.cli.main import app
from vgg_cuda.system.cache import CacheError, CacheFile
from vgg_cuda.weights import save

pytestmark = pytest.mark.emulator
EMULATED = ("--device", "emulator", "--arch", "sm_90a")
NO_GPU = pytest.mark.skipif(why_missing("cuda") is None, reason="a GPU is present")


@pytest.fixture
def network(tmp_path: Path) -> str:
    path = tmp_path / "tiny.safetensors"
    save(weights(), path)
    return str(path)


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def lines(result: Result) -> dict[str, list[str]]:
    """Return the cells of a table's lines, by their first word."""
    cells = [line.split() for line in result.stdout.splitlines() if line]
    return {words[0]: words[1:] for words in cells}


def test_table_of_a_gpu(network: str, timer: MadeUpTimer) -> None:
    result = run("tune", network, "--batch", "2,1", "--size", 16, "--uint8")
    assert result.exit_code == 0, result.stderr
    assert "batch 2, float16, on GPU 0 (sm_90a)" in result.stdout
    for layer, variant, time in (("conv2_1", "m64n64", "1.0"), ("fc6", "dense_m16", "1.0")):
        assert lines(result)[layer][:2] == [variant, time]
        assert lines(result)[layer][-2].startswith("+50.")
    assert lines(result)["conv1_1"][:3] == ["conv1_2", "apart", "3.0"]
    assert lines(result)["total"][0] == "7.0"
    assert "GHz" in result.stdout
    assert "counters" not in result.stdout
    again = run("tune", network, "--batch", "1,2", "--size", 16, "--uint8", "--json")
    report = json.loads(again.stdout)
    assert report["measured"]
    assert report["network"] == network
    assert report["from_file"] == sum(len(batch["layers"]) for batch in report["batches"])
    assert [batch["batch"] for batch in report["batches"]] == [1, 2]
    assert Path(report["file"]).exists()
    tuned = run("plan", network, "--batch", 2, "--size", 16, "--uint8", "--tuned")
    assert tuned.exit_code == 0, tuned.stderr
    assert "conv3x3_f16_m64n64_pool" in tuned.stdout
    assert lines(tuned)["conv2_1"][:2] == ["m64n64", "1.0"]
    assert "not tuned" not in tuned.stdout
    row = ["fc6", *lines(tuned)["fc6"]]  # with the same error of the estimate
    assert row in [line.split() for line in result.stdout.splitlines()]


def test_dropped_kernels_are_listed(network: str, timer: MadeUpTimer, log: Any) -> None:
    log.refuses = lambda plan: plan.variant == "dense_m16"
    with pytest.warns(UserWarning, match="dense_m16 is not used"):
        result = run("tune", network, "--size", 16)
    assert result.exit_code == 0
    assert "fc6: dropped dense_m16: " in result.stdout
    assert "cudaErrorInvalidValue" in result.stdout


def test_emulator_ranks_by_counters(network: str, monkeypatch: pytest.MonkeyPatch) -> None:
    result = run("tune", network, "--size", 16, "--uint8", *EMULATED)
    assert result.exit_code == 0, result.stderr
    assert "ranked by the emulator's counters, not measured" in result.stdout
    assert " us " not in result.stdout
    assert lines(result)["conv1_1"][:2] == ["conv1_2", "fused"]
    plan = run("plan", network, "--size", 16, "--uint8", "--tuned", *EMULATED, "--json")
    tuned = json.loads(plan.stdout)["tuned"]
    assert tuned["unit"] == "cycles"
    assert all(layer["variant"] for layer in tuned["layers"])
    monkeypatch.setenv("VGG_CUDA_DISABLE", "halo,dense")  # the file has times of these kernels
    switches.cache_clear()
    backends._emulator.cache_clear()
    fit = run("tune", "--fit", *EMULATED)
    assert fit.exit_code == 0, fit.stderr
    assert "nothing was changed" in fit.stdout
    assert fit.stdout.startswith("constants of the emulator (sm_90a), from ")
    assert "ranked by the emulator's counters" in fit.stdout


def test_plan_says_what_is_not_tuned(network: str) -> None:
    result = run("plan", network, "--size", 16, "--tuned", *EMULATED)
    assert result.exit_code == 0
    last = result.stdout.splitlines()[-1]
    assert last.startswith("nothing is tuned for this network, batch and device: run `vgg-cuda ")
    command = last.split("`")[1].split()[1:]
    assert run(*command).exit_code == 0  # the command that plan names
    assert "nothing is tuned" not in run("plan", *command[1:], "--tuned").stdout


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ((), "network: expected a network to tune, or --fit without a network"),
        (("vgg16", "--fit"), "--fit: expected no network, batch, size or dtype, got a network"),
        (
            ("--fit", "--batch", "1"),
            "--fit: expected no network, batch, size or dtype, got",
        ),
        (("vgg99", *EMULATED), "network: expected one of vgg11"),
        (
            ("vgg16", "--device", "cpu"),
            "--device: expected auto, cuda, cuda:N or emulator, got",
        ),
        (
            ("vgg16", "--device", "cuda:-1"),
            "--device: expected auto, cuda, cuda:N or emulator, got",
        ),
        (("vgg16", "--batch", "1,x", *EMULATED), "--batch: expected numbers of 1 or more"),
        (("vgg16", "--size", "8", *EMULATED), "--size: expected"),
        (("vgg16", "--dtype", "int8", *EMULATED), "--dtype: expected float16"),
        (("vgg16", "--batch", "99999", *EMULATED), "--batch: expected less than 2^31 pixels"),
        (("--fit", *EMULATED), "--fit: expected at least"),
        pytest.param(("vgg16",), "--device: expected a GPU to tune for, got none", marks=NO_GPU),
    ],
)
def test_bad_arguments(arguments: tuple[str, ...], error: str) -> None:
    result = run("tune", *arguments)
    assert result.exit_code == 2
    assert result.stderr.startswith(f"error: {error}")
    assert result.stderr.count("\n") == 1


def test_cache_that_cannot_be_written(network: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VGG_CUDA_CACHE", network)  # a file
    result = run("tune", network, *EMULATED)
    assert result.exit_code == 2
    assert result.stderr.startswith("error: VGG_CUDA_CACHE: expected a folder, got ")
    assert result.stderr.count("\n") == 1


def test_disk_that_fills_up(network: str, monkeypatch: pytest.MonkeyPatch) -> None:
    merge, calls = CacheFile.merge, iter(range(99))

    def fails(file: CacheFile[Any], entries: Any) -> None:
        if next(calls) == 2:  # after the test whether the file is writable, and one entry
            raise CacheError("cannot write the cache file: No space left on device")
        merge(file, entries)

    monkeypatch.setattr(CacheFile, "merge", fails)
    result = run("tune", network, "--size", 16, *EMULATED)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.startswith("error: cannot write the cache file")
    assert result.stderr.endswith("(1 entries were kept)\n")


def test_default_arch_of_the_emulator(network: str) -> None:
    tuned = run("tune", network, "--size", 16, "--device", "emulator")
    assert "on the emulator (sm_90a)" in tuned.stdout
    plan = run("plan", network, "--size", 16, "--tuned", "--device", "emulator")
    assert "not tuned" not in plan.stdout
    assert "sm_90a" in plan.stdout


def test_plan_refuses_a_device_without_tuned(network: str) -> None:
    result = run("plan", network, "--device", "emulator")
    assert result.exit_code == 2
    assert "--device: expected --tuned" in result.stderr


INTERRUPTED = """
import os, signal
from vgg_cuda.cli.main import main
from vgg_cuda.tuning import Entries

def add(entries, key, entry, add=Entries.add):
    add(entries, key, entry)
    os.kill(os.getpid(), signal.SIGTERM)

Entries.add = add
main()
"""


def test_interrupted_run_says_what_is_kept(network: str) -> None:
    command = [sys.executable, "-c", INTERRUPTED, "tune", network, "--size", "16", *EMULATED]
    folder = Path(network).parent  # not that of the sources, which have no extension
    ended = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert ended.returncode == 128 + signal.SIGTERM
    assert ended.stdout == ""
    assert ended.stderr.startswith("interrupted: 1 entries are kept in ")
