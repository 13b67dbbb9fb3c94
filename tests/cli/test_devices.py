"""Switches, kernels that are off, and failing GPUs in the output of the commands."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from support.fake_cupy import fake_gpus
from typer.testing import CliRunner

from vgg_cuda import backends
from vgg_cuda.backends.switches import switches
from vgg_cuda.backends.verdicts import Verdict
from vgg_cuda.cli.main import app

pytestmark = pytest.mark.emulator


@pytest.fixture(autouse=True)
def _afresh() -> Iterator[None]:
    yield
    switches.cache_clear()
    backends._emulator.cache_clear()


def run(*arguments: object, **variables: str) -> Any:
    switches.cache_clear()
    return CliRunner().invoke(app, [str(each) for each in arguments], env=variables)


def test_info_lists_switches_and_kernels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    verdicts = {"halo": Verdict("wrong", "differs"), "dense": Verdict("ok")}
    variables = {
        "VGG_CUDA_DISABLE": "swap_ab", "VGG_CUDA_PDL": "0", "VGG_CUDA_CACHE": str(tmp_path),
    }  # fmt: skip
    with fake_gpus(monkeypatch, (9, 0), (8, 6), (7, 0), verdicts=verdicts):
        found = json.loads(run("info", "--json", **variables).stdout)
        text = run("info", **variables).stdout
    assert found["switches"] == {
        "VGG_CUDA_ARCH": {"value": None, "source": "default"},
        "VGG_CUDA_DISABLE": {"value": "swap_ab", "source": "environment"},
        "VGG_CUDA_PDL": {"value": "0", "source": "environment"},
        "VGG_CUDA_TUNE": {"value": "cached", "source": "default"},
    }
    assert found["cache"] == {
        "folder": str(tmp_path), "reason": None, "source": "environment",
    }  # fmt: skip
    hopper, ampere, volta = found["devices"]
    assert (hopper["arch"], ampere["arch"], volta["arch"]) == ("sm_90a", "sm_86", None)
    assert hopper["kernels"] == {
        "halo": {"on": False, "reason": "self-test: wrong results: differs"},
        "swap_ab": {"on": False, "reason": "VGG_CUDA_DISABLE"},
        "dense": {"on": True, "reason": None},
        "fused_conv1_block": {"on": True, "reason": None},
        "early": {"on": False, "reason": "VGG_CUDA_PDL"},
        "graph": {"on": True, "reason": None},
    }
    assert hopper["selftest"]["halo"] == {"verdict": "wrong", "detail": "differs"}
    assert list(ampere["kernels"]) == ["early", "graph"]
    assert (volta["kernels"], volta["selftest"]) == ({}, None)
    for line in (
        "VGG_CUDA_DISABLE swap_ab (environment)",
        f"cache folder     {tmp_path} (environment)",
        "kernels of GPU 0 sm_90a; on: portable, dense, fused_conv1_block, CUDA graphs; off: halo "
        "(self-test: wrong results: differs), swap_ab (VGG_CUDA_DISABLE), early launches "
        "(VGG_CUDA_PDL); self-test: halo wrong, dense ok",
    ):
        assert line in text


def test_info_names_gpus_that_cannot_run_arch(monkeypatch: pytest.MonkeyPatch) -> None:
    with fake_gpus(monkeypatch, (9, 0), (8, 6)):
        result = run("info", VGG_CUDA_ARCH="sm_90a")
    assert result.exit_code == 0, result.stderr
    assert "kernels of GPU 0 sm_90a; on: portable, halo" in result.stdout
    reason = "none: VGG_CUDA_ARCH: expected one of sm_86 for GPU 1 (sm_86), got 'sm_90a'"
    assert f"kernels of GPU 1 {reason}" in result.stdout


def test_info_without_a_home_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("VGG_CUDA_CACHE", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr("pwd.getpwuid", lambda _: {}["no such user"])
    assert json.loads(run("info", "--json").stdout)["cache"]["folder"] is None
    assert (
        "cache folder     not usable: there is no home folder for cache files; set"
        in run("info").stdout
    )


def test_info_without_a_self_test(monkeypatch: pytest.MonkeyPatch) -> None:
    with fake_gpus(monkeypatch, (9, 0), verdicts=None):
        assert json.loads(run("info", "--json").stdout)["devices"][0]["selftest"] is None
        assert "self-test: none, run `vgg-cuda selftest`" in run("info").stdout


@pytest.mark.parametrize(
    ("variable", "expected"),
    [
        ("VGG_CUDA_DISABLE", "halo, swap_ab, dense, fused_conv1_block"),
        ("VGG_CUDA_ARCH", "sm_80, sm_86, .*sm_90a.* for this build"),
        ("VGG_CUDA_PDL", "0, 1"),
    ],
)
@pytest.mark.parametrize("options", [(), ("--json",)], ids=["text", "json"])
def test_info_reports_a_bad_variable(variable: str, expected: str, options: Any) -> None:
    result = run("info", *options, **{variable: "fast"})
    assert result.exit_code == 2
    assert result.stdout == ""
    line = rf"error: {variable}: expected one of {expected}, got 'fast'\n"
    assert re.fullmatch(line, result.stderr)


def test_plan_follows_the_switches() -> None:
    command = ("plan", "vgg16", "--batch", 64)
    assert "fused_conv1_block" in run(*command).stdout
    disabled = run(*command, VGG_CUDA_DISABLE="halo,fused_conv1_block").stdout
    assert "sm_90a" in disabled
    assert "swap_ab" in disabled
    assert not re.search("halo|fused_conv1_block", disabled)
    assert "sm_86" in run(*command, VGG_CUDA_ARCH="sm_86").stdout
    assert "sm_90a" in run(*command, "--arch", "sm_90a", VGG_CUDA_ARCH="sm_86").stdout
    result = run(*command, VGG_CUDA_ARCH="fast")
    assert result.exit_code == 2
    assert result.stderr.startswith("error: VGG_CUDA_ARCH: expected one of sm_80, ")


def test_failing_gpus_are_reported_on_one_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    command = ("classify", tmp_path, "--weights", "digits", "--device", "cuda")
    with fake_gpus(monkeypatch, (9, 0)) as log:
        log.refuses = lambda plan: True
        result = run(*command)
        assert result.exit_code == 2
        assert result.stderr.startswith("error: cuda:0 refused ")
        log.refuses, log.lost = lambda plan: False, True
        result = run(*command)
        assert result.exit_code == 2
        assert result.stderr.startswith("error: cuda:0 failed (")
        assert result.stderr.count("\n") == 1
