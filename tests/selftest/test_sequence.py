"""Consequences of the outcomes of the self-test's parts, without child processes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from support.fake_cupy import fake_gpus
from typer.testing import CliRunner

from vgg_cuda import _C, backends
from vgg_cuda.backends import DeviceError, families
from vgg_cuda.backends.verdicts import read_verdicts
from vgg_cuda.cli.main import app
from vgg_cuda.selftest import NAMES, Report, selftest, sequence
from vgg_cuda.selftest.outcome import Job, Outcome
from vgg_cuda.system.interruption import Interruption

OK = Outcome("ok", cases=3, worst=0.25, digests={"a forward": "0123"})
Answer = Callable[[Job, dict[str, str]], Outcome]


@pytest.fixture
def tested(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Report]:
    """Return a function that runs the self-test of a fake GPU, with made-up outcomes."""
    monkeypatch.setenv("VGG_CUDA_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(families, "read_verdicts", read_verdicts)

    def run(answer: Answer, **options: Any) -> Report:
        def run_part(
            job: Job, limit_s: float, stop: Interruption, env: Mapping[str, str]
        ) -> Outcome:
            assert limit_s == 10
            assert (job.device, job.repeats) == ("cuda", 300)
            assert env["VGG_CUDA_CACHE"] != str(tmp_path / "cache")
            return answer(job, {key.removeprefix("VGG_CUDA_"): text for key, text in env.items()})

        monkeypatch.setattr(sequence, "run_part", run_part)
        return selftest(**options)

    return run


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Any:
    with fake_gpus(monkeypatch, (9, 0)) as log:
        monkeypatch.setattr(families, "read_verdicts", read_verdicts)
        yield log


def new_backend() -> Any:
    """Return the backend of a new process."""
    backends._cuda.cache_clear()
    return backends.get_backend("cuda")


def verdicts(report: Report) -> dict[str, str]:
    return {part.name: part.verdict for part in report.parts if part.verdict != "ok"}


def details(report: Report) -> dict[str, str]:
    return {part.name: part.detail for part in report.parts if part.detail}


@pytest.mark.usefixtures("gpu")
def test_everything_ok(tested: Callable[..., Report]) -> None:
    asked: list[tuple[str, str, str]] = []

    def answer(job: Job, env: dict[str, str]) -> Outcome:
        asked.append((job.part, env["DISABLE"], env["PDL"]))
        assert job.arch == "sm_90a"
        assert job.digests == (OK.digests if job.part in ("early", "graph") else {})
        return OK

    report = tested(answer)
    assert asked == [(name, "", str(int(name != "forward"))) for name in NAMES]
    assert report.ok
    assert "right results on GPU 0" in report.sentence()
    path = report.keep()
    assert path is not None
    assert report.header is not None
    kept = read_verdicts(report.header)
    assert kept is not None
    assert {name: found.verdict for name, found in kept.items()} == dict.fromkeys(
        ["portable", *_C.families(), "forward", "early", "graph"], "ok"
    )
    lines = report.table().splitlines()
    assert lines[0].split() == ["part", "verdict", "seconds", "cases", "of", "bound", "detail"]
    assert lines[3].split() == ["portable", "ok", "0.0", "3", "0.250"]


@pytest.mark.usefixtures("gpu")
def test_refused_map_fails_its_family(tested: Callable[..., Report]) -> None:
    """Its kernels may be right for other shapes."""

    def answer(job: Job, env: dict[str, str]) -> Outcome:
        if job.part == "maps":
            return Outcome("refused", "planted", families={"swap_ab": "refused"})
        assert env["DISABLE"] == ("swap_ab" if job.part in ("dense", "forward") else "")
        return OK

    report = tested(answer, only=["maps", "swap_ab", "dense", "forward"])
    assert verdicts(report) == {"maps": "refused", "swap_ab": "refused"}
    assert details(report)["swap_ab"] == "in tensor maps and kernels: planted"
    assert report.off == ["swap_ab"]


@pytest.mark.usefixtures("gpu")
def test_forward_blames_the_first_bad_layer(tested: Callable[..., Report]) -> None:
    """The family of that layer is off, and the forward runs again."""

    def answer(job: Job, env: dict[str, str]) -> Outcome:
        if job.part == "forward" and "dense" not in env["DISABLE"]:
            return Outcome("wrong", "fc6 is wrong", families={"dense": "wrong"})
        return OK

    report = tested(answer)
    assert verdicts(report) == {"dense": "wrong"}
    assert details(report) == {
        "dense": "in whole forwards: fc6 is wrong", "forward": "without dense",
    }  # fmt: skip
    assert report.off == ["dense"]
    assert "off from now on, on GPU 0 with this driver and build: dense;" in report.sentence()


@pytest.mark.usefixtures("gpu")
def test_hung_forward_blames_all_families(tested: Callable[..., Report]) -> None:
    def answer(job: Job, env: dict[str, str]) -> Outcome:
        if job.part == "swap_ab":
            return Outcome("crashed", "planted")
        if job.part == "forward" and env["DISABLE"] != "halo,swap_ab,dense,fused_conv1_block":
            assert env["DISABLE"] == "swap_ab"
            return Outcome("hung", "no answer in 10 s")
        return OK

    report = tested(answer)
    assert verdicts(report) == {
        "halo": "hung", "swap_ab": "crashed", "dense": "hung", "fused_conv1_block": "hung",
    }  # fmt: skip
    assert details(report)["forward"] == "without halo, dense, fused_conv1_block"


@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize("part", ["portable", "forward"])
def test_portable_faults_cannot_be_replaced(tested: Callable[..., Report], part: str) -> None:
    wrong = Outcome("wrong", "planted", families={"portable": "wrong"})
    report = tested(lambda job, _: wrong if job.part == part else OK)
    assert report.sentence().startswith("do not use this build on GPU 0: ")
    assert not report.ok
    assert report.off == []
    report.keep()
    words = {"portable": "portable kernels", "forward": "whole forwards"}[part]
    warning = new_backend().families.warning("GPU 0")
    assert f"results may be wrong: {words} (wrong results: planted); " in warning
    if part == "forward":
        assert details(report)["early"] == "needs whole forwards"
        assert verdicts(report) == {"forward": "wrong", "early": "not run", "graph": "not run"}


@pytest.mark.usefixtures("gpu")
def test_early_launches_are_off_alone(tested: Callable[..., Report]) -> None:
    """Also if they fail only inside graphs."""
    found = []
    for part in ("early", "graph"):

        def answer(job: Job, env: dict[str, str], part: str = part) -> Outcome:
            bad = job.part == part and env["PDL"] == "1"
            return Outcome("wrong", "repeat 7 differs") if bad else OK

        report = tested(answer)
        assert verdicts(report) == {"early": "wrong"}
        found.append(details(report)["early"])
        report.keep()
        backend = new_backend()
        assert report.off == ["early"]
        assert list(backend.families.off) == ["early"]
    assert found == ["repeat 7 differs", "in graphs: repeat 7 differs"]


def test_graphs_are_replaced_by_launches(tested: Callable[..., Report], gpu: Any) -> None:
    report = tested(lambda job, _: Outcome("hung", "planted") if job.part == "graph" else OK)
    assert verdicts(report) == {"graph": "hung"}
    report.keep()
    backend = new_backend()
    ran: list[int] = []
    launch = backend.capture(lambda: ran.append(gpu.streams[-1]))
    launch()
    assert ran == [0, 0], "launched twice on the current stream"
    assert "CUDA graphs (self-test: did not end: planted)" in backend.families.warning("GPU 0")


@pytest.mark.usefixtures("gpu")
def test_a_lost_gpu_ends_the_run(tested: Callable[..., Report]) -> None:
    """Only the verdicts of parts that ran are kept."""

    def answer(job: Job, _: dict[str, str]) -> Outcome:
        if job.part in ("halo", "check"):
            return Outcome("hung", f"{job.part}: no answer in 10 s")
        return OK

    report = tested(answer)
    assert report.sentence() == (
        "cuda does not work after the part halo (hung): check: no answer in 10 s; reset it or "
        "restart the machine, then run the self-test again; off from now on: halo"
    )
    assert report.off == ["halo"]
    assert list(report.verdicts()) == ["portable", "halo"]
    assert [part.verdict for part in report.parts[3:]] == ["not run"] * 6


@pytest.mark.usefixtures("gpu")
def test_a_gpu_lost_in_a_graph_keeps_the_verdict(tested: Callable[..., Report]) -> None:
    lost = Outcome("hung", "planted")
    report = tested(lambda job, _: lost if job.part in ("graph", "check") else OK)
    assert verdicts(report) == {"graph": "hung"}
    assert report.off == ["graph"]


def test_other_architectures_have_no_families(
    tested: Callable[..., Report], monkeypatch: pytest.MonkeyPatch
) -> None:
    with fake_gpus(monkeypatch, (8, 0)):
        report = tested(lambda *_: OK)
    assert verdicts(report) == dict.fromkeys(_C.families(), "none")
    assert details(report)["halo"] == "sm_80 has no such kernels"
    assert report.ok


@pytest.mark.usefixtures("gpu")
def test_switches_of_the_user(
    tested: Callable[..., Report], monkeypatch: pytest.MonkeyPatch
) -> None:
    from vgg_cuda.backends.switches import Switches

    monkeypatch.setattr(
        "vgg_cuda.selftest.switches", lambda: Switches(disable=("dense",), pdl=False)
    )

    def answer(job: Job, env: dict[str, str]) -> Outcome:
        assert (env["DISABLE"], env["PDL"]) == ("dense", "0")
        assert job.part not in ("dense", "early")
        return OK

    report = tested(answer)
    assert verdicts(report) == {"dense": "off", "early": "off"}
    assert details(report) == {"dense": "VGG_CUDA_DISABLE", "early": "VGG_CUDA_PDL=0"}
    assert report.ok
    assert set(report.verdicts()).isdisjoint({"dense", "early"})


def test_bad_arguments_are_reported() -> None:
    with pytest.raises(ValueError, match='device: expected "cuda", "cuda:N" or "emulator"'):
        selftest("cpu")
    with pytest.raises(ValueError, match=r"only: expected some of maps, .* got .hal."):
        selftest("emulator", only=["hal"])
    if not _C.device_info()["available"]:
        with pytest.raises(DeviceError, match="'cuda' is not available"):
            selftest()
        result = CliRunner().invoke(app, ["selftest"])
        assert result.exit_code == 2
        assert result.stderr.count("\n") == 1


@pytest.mark.usefixtures("gpu")
def test_parts_that_are_not_tested(
    tested: Callable[..., Report], monkeypatch: pytest.MonkeyPatch
) -> None:
    from vgg_cuda.backends.switches import Switches

    monkeypatch.setattr("vgg_cuda.selftest.switches", lambda: Switches(disable=("halo",)))
    report = tested(lambda *_: OK, only="halo")
    assert report.sentence() == "nothing was tested on GPU 0; not tested: halo (VGG_CUDA_DISABLE)"
    assert not report.ok
    report = tested(lambda *_: OK, only=["halo", "dense"])
    assert report.sentence() == "ok on GPU 0: dense; not tested: halo (VGG_CUDA_DISABLE)"
    assert report.ok
    monkeypatch.setattr("sys.stdout", None)  # closed
    code = app(["selftest", "--only", "halo", "--only", "dense"], standalone_mode=False)
    assert not code


@pytest.mark.usefixtures("gpu")
def test_refused_portable_maps_are_serious(tested: Callable[..., Report]) -> None:
    """Also if a family is off."""
    refused = Outcome("refused", "planted", families={"halo": "refused", "portable": "refused"})
    report = tested(lambda job, _: refused if job.part == "maps" else OK)
    assert report.off == ["halo"]
    assert report.sentence().startswith("do not use this build on GPU 0: portable kernels failed")


@pytest.mark.usefixtures("gpu")
def test_table_survives_an_unwritable_cache(
    tested: Callable[..., Report], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    tested(lambda *_: OK)
    (tmp_path / "cache").write_text("a file in the way")
    result = CliRunner().invoke(app, ["selftest"])
    assert result.exit_code == 1
    assert "portable  " in result.stdout
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: VGG_CUDA_CACHE: expected a folder, got ")
    (tmp_path / "cache").unlink()
    result = CliRunner().invoke(app, ["selftest"])
    assert result.exit_code == 0
    assert "verdicts are kept in " in result.stdout
    [file] = (tmp_path / "cache").glob("*.json")
    assert str(file) in result.stdout
