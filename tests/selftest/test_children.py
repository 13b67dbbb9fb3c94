"""Faults of kernels in child processes become verdicts, and leave nothing behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from vgg_cuda.selftest import NAMES, Report, selftest
from vgg_cuda.selftest.outcome import Job
from vgg_cuda.selftest.part import run_part
from vgg_cuda.system.interruption import Interruption

pytestmark = pytest.mark.emulator

Plant = Callable[[str], None]

FAULTS = """
def planted(self, case, operands, arch, repeats=1):
    variant = case.variant or ""
    if variant.startswith("halo"):
        os.abort()
    if variant.startswith("dense"):
        raise _C.LaunchRefused("linear_f16_dense: cudaErrorInvalidValue: invalid argument")
    found = run(self, case, operands, arch, repeats)
    if case.op == "fused_conv1_block":
        found[0].y[..., -1] = 7
    return found
Target.run = planted
"""


def parts(report: Report) -> dict[str, tuple[str, str]]:
    return {part.name: (part.verdict, part.detail) for part in report.parts}


def test_faults_become_verdicts(plant: Plant) -> None:
    plant(FAULTS)
    families = ("halo", "dense", "fused_conv1_block")
    seen: list[str] = []
    report = selftest("emulator", only=families, progress=seen.append)
    found = parts(report)
    assert [verdict for verdict, _ in found.values()] == ["crashed", "refused", "wrong"]
    assert found["halo"][1].startswith("conv3x3 halo_")
    assert "killed by SIGABRT" in found["halo"][1]
    assert "linear_f16_dense: cudaErrorInvalidValue" in found["dense"][1]
    assert ": 7, expected " in found["fused_conv1_block"][1]
    assert found["fused_conv1_block"][1].endswith(" (and 2 more)")
    assert seen == list(families)
    assert not report.ok
    assert report.sentence() == f"failed: {', '.join(families)}"
    assert report.keep() is None, "verdicts on the emulator say nothing about a GPU"


def test_hung_kernel_is_named(plant: Plant) -> None:
    plant("Target.run = lambda *_, **__: time.sleep(60)\n")
    report = selftest("emulator", only=["swap_ab"], limit_s=0.8)
    [(verdict, detail)] = parts(report).values()
    assert verdict == "hung"
    assert detail.startswith("conv3x3 swap_ab_rows2_c2 float16 x float16 [2, 5, 17, 128] to 256")
    assert detail.endswith(": no answer in 0.8 s")
    assert "emulator does not work after the part swap_ab (hung): " in report.sentence()


def test_lost_device_stops_the_run(plant: Plant) -> None:
    plant("def lost(*_, **__): raise _C.DeviceLost('planted: cudaErrorIllegalAddress')\n"
          "Target.run = lost\n")  # fmt: skip
    report = selftest("emulator", only=["halo", "dense"])
    found = parts(report)
    assert found["halo"][0] == "crashed"
    assert "DeviceLost: planted: cudaErrorIllegalAddress" in found["halo"][1]
    assert found["dense"] == ("not run", "the run was stopped")
    assert report.sentence().startswith("emulator does not work after the part halo (crashed): ")
    assert "run the self-test again" in report.sentence()


def test_a_child_that_cannot_start_decides_nothing(plant: Plant) -> None:
    plant("def broken(*_): raise OSError('planted')\nTarget.__init__ = broken\n")
    report = selftest("emulator", only=["dense"])
    assert parts(report)["dense"][0] == "not run"
    assert "planted" in report.sentence()


def test_broken_children_do_not_blame_the_device(plant: Plant) -> None:
    plant("import vgg_cuda.selftest.worker as worker\ndel worker.serve\n")
    report = selftest("emulator", only=["dense", "halo"])
    assert [part.verdict for part in report.parts] == ["not run", "not run"]
    assert report.sentence().startswith("a child process could not start: exit status 1: Attribute")
    assert "reset" not in report.sentence()


def test_modules_in_the_folder_do_not_matter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Children do not import them, as the command does not."""
    for name in ("json", "importlib", "socket", "numpy"):
        (tmp_path / f"{name}.py").write_text("raise ImportError('shadow')")
    monkeypatch.setattr("sys.path", [entry for entry in sys.path if entry])
    monkeypatch.chdir(tmp_path)
    outcome = run_part(Job("check", "emulator", "sm_80"), 60, Interruption(), {})
    assert (outcome.verdict, outcome.detail) == ("ok", "")


def test_kernel_lines_begin_the_detail(plant: Plant) -> None:
    plant(
        "def planted(*_, **__):\n"
        "    print('hello\\nkernel k: has waited 2 s\\nkernel k: warp 1', flush=True)\n"
        "    raise RuntimeError('planted')\n"
        "Target.run = planted\n"
    )
    report = selftest("emulator", only="dense")
    assert report.parts[0].detail.startswith("kernel k: has waited 2 s; linear dense_")
    assert "RuntimeError: planted" in report.parts[0].detail


def test_interruption_leaves_nothing(plant: Plant, tmp_path: Path) -> None:
    pids, temporary, cache = tmp_path / "pids", tmp_path / "tmp", tmp_path / "cache"
    temporary.mkdir()
    plant(
        "def hung(*_, **__):\n"
        f"    open({str(pids)!r}, 'w').write(str(os.getpid()))\n"
        "    time.sleep(60)\n"
        "Target.run = hung\n"
    )
    env = {**os.environ, "TMPDIR": str(temporary), "VGG_CUDA_CACHE": str(cache)}
    command = [sys.executable, "-m", "vgg_cuda", "selftest", "--device", "emulator"]
    process = subprocess.Popen(
        [*command, "--only", "halo"], env=env, cwd=tmp_path, text=True, stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )  # fmt: skip
    end = time.monotonic() + 60
    while not (pids.exists() and pids.read_text()):
        assert time.monotonic() < end, "no child was started"
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    out, errors = process.communicate(timeout=30)
    assert process.returncode == 128 + signal.SIGINT
    assert (out, errors) == ("", "interrupted: no verdict was kept\n")
    with pytest.raises(ProcessLookupError):
        os.kill(int(pids.read_text()), 0)
    assert not cache.exists()
    assert not list(temporary.iterdir())


@pytest.mark.slow
def test_all_kernels_pass_on_the_emulator(tmp_path: Path) -> None:
    """The whole command, within a minute."""
    command = [sys.executable, "-m", "vgg_cuda", "selftest", "--device", "emulator", "--json"]
    ran = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, timeout=240, check=False
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    report = json.loads(ran.stdout)
    assert [part["name"] for part in report["parts"]] == list(NAMES)
    assert {part["verdict"] for part in report["parts"]} == {"ok"}
    assert all(part["cases"] for part in report["parts"])
    assert report["arch"] == "sm_90a"
    assert report["kept"] is None
