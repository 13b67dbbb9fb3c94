"""Environment variables, verdicts of the self-test, and lost GPUs, on fake GPUs and elsewhere."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.fake_cupy import CUDARuntimeError, Stream, asarray, fake_gpus
from support.kernel_reference import draw

from vgg_cuda import _C, VGG, DeviceWarning, backends, ops
from vgg_cuda.backends import DeviceLostError, KernelError, SwitchError, families, get_backend
from vgg_cuda.backends.switches import ARCH, DISABLE, PDL, TUNING, switches
from vgg_cuda.backends.verdicts import Verdict, device_header, read_verdicts, write_verdicts
from vgg_cuda.configs import Config
from vgg_cuda.weights import he_weights

pytestmark = pytest.mark.emulator

WEIGHTS = he_weights(Config("small", (16, "M"), (16, 4), pool_grid=1), 3)
X = draw((2, 8, 8, 3), "float16")

Switch = Callable[..., None]


@pytest.fixture
def switch(monkeypatch: pytest.MonkeyPatch) -> Iterator[Switch]:
    """Set environment variables, as if the process had started with them."""

    def forget() -> None:
        for cached in (switches, backends._cuda, backends._emulator):
            cached.cache_clear()

    def set_variables(**values: str) -> None:
        for name, value in values.items():
            monkeypatch.setenv(name, value)
        forget()

    forget()
    yield set_variables
    monkeypatch.undo()
    forget()


def plan_of(device: str, arch: str | None = None) -> Any:
    x, w = draw((1, 8, 8, 64), "float16"), draw((128, 3, 3, 64), "float16")
    given: Any = asarray(x) if device == "cuda" else x
    _, stats = ops.conv3x3(given, w, device=device, arch=arch, return_stats=True)
    return stats["plan"]


@pytest.mark.parametrize("device", ["cuda", "emulator"])
def test_arch_and_disable(device: str, switch: Switch, monkeypatch: pytest.MonkeyPatch) -> None:
    with fake_gpus(monkeypatch, (9, 0)):
        switch(VGG_CUDA_ARCH="sm_90a", VGG_CUDA_DISABLE="halo, dense")
        assert plan_of(device)["family"] == "swap_ab"
        on: Any = get_backend(device)
        assert on.families_off == {"halo": DISABLE, "dense": DISABLE}
        assert on.arch.families == ("swap_ab", "fused_conv1_block")
        assert on.arch.sm_count == (20 if device == "cuda" else 132)
        assert plan_of(device, "sm_86")["arch"] == "sm_86"  # an argument counts more
        switch(VGG_CUDA_ARCH="sm_86")
        assert plan_of(device)["arch"] == "sm_86"
        assert VGG(WEIGHTS, device=device)._backend.families_off == {}  # type: ignore[attr-defined]


def test_bad_values_are_reported_on_all_devices(
    switch: Switch, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = {
        DISABLE: "one of halo, swap_ab, dense, fused_conv1_block", PDL: "one of 0, 1",
        TUNING: "one of never, cached, now",
    }  # fmt: skip
    with fake_gpus(monkeypatch, (9, 0)):
        for name, known in expected.items():
            with monkeypatch.context() as patch:
                patch.setenv(name, "halo,fast")
                switch()
                for device in ("cpu", "cuda", "emulator"):
                    with pytest.raises(SwitchError, match=f"^{name}: expected {known}, got"):
                        VGG(WEIGHTS, device=device)
                with pytest.raises(ValueError, match=f"^relu: {name}: expected {known}, got"):
                    ops.relu(X.astype(np.float32))


def test_bad_arch_is_reported_where_it_counts(
    switch: Switch, monkeypatch: pytest.MonkeyPatch
) -> None:
    with fake_gpus(monkeypatch, (8, 6)):
        switch(VGG_CUDA_ARCH="sm_90a")
        with pytest.raises(SwitchError, match=rf"^{ARCH}: expected one of sm_86 for GPU 0 "
                           r"\(sm_86\), got 'sm_90a'"):  # fmt: skip
            get_backend("cuda")
        assert plan_of("emulator")["arch"] == "sm_90a"
        switch(VGG_CUDA_ARCH="hopper")
        with pytest.raises(SwitchError, match=f"^{ARCH}: expected one of .* for the emulator"):
            get_backend("emulator")
        with pytest.raises(SwitchError, match=f"^relu: {ARCH}: expected one of .* for GPU 0"):
            ops.relu(asarray(X))
        assert VGG(WEIGHTS, device="cpu")(X.astype(np.float32)).shape == (2, 4)


# ---- Early launches ----


@pytest.mark.parametrize(("value", "early"), [(" 0", False), ("1", True)])
def test_early_launches(
    value: str, early: bool, switch: Switch, monkeypatch: pytest.MonkeyPatch
) -> None:
    switch(VGG_CUDA_PDL=value)
    with fake_gpus(monkeypatch, (9, 0)) as log:
        VGG(WEIGHTS, device="cuda")(X)
        assert log.early == [False, *[early] * (len(log.early) - 1)]


@pytest.mark.parametrize(("driver", "early"), [("12.2", False), ("12.3", True), ("13.0", True)])
def test_early_launches_in_a_capture(
    driver: str, early: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    with fake_gpus(monkeypatch, (9, 0), driver=driver) as log:
        model = VGG(WEIGHTS, device="cuda")
        model(X)
        eager = log.early.copy()
        assert all(eager[1:])
        model.capture(X.shape)
        assert log.early[len(eager) :] == [*eager, False, *[early] * (len(eager) - 1)]
        backend: Any = get_backend("cuda")
        stream = Stream(64)  # captured by the caller
        with stream:
            stream.begin_capture()
            backend.executor(early=True)
            stream.end_capture()
            assert log.early[-1] == early
            backend.executor(early=True)
            assert log.early[-1]


# ---- Verdicts of the self-test ----


def shown(function: Callable[[], Any]) -> list[str]:
    """Return the text of the warnings that ``function`` causes."""
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        function()
    assert all(each.category is DeviceWarning for each in found)
    return [str(each.message) for each in found]


def model() -> VGG:
    return VGG(WEIGHTS, device="cuda")


def test_missing_verdict_is_reported_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, switch: Switch
) -> None:
    switch(VGG_CUDA_CACHE=str(tmp_path))
    advice = "GPU 0: its kernels have not been tested with this driver and build; run "
    with fake_gpus(monkeypatch, (9, 0), (8, 6)) as log:
        monkeypatch.setattr(families, "read_verdicts", read_verdicts)  # from files
        assert shown(lambda: ops.relu(asarray(X))) == []
        assert shown(model) == [advice + "`vgg-cuda selftest` once"]
        assert shown(model) == []
        [other] = shown(lambda: VGG(WEIGHTS, device="cuda:1"))  # has portable kernels only
        assert other.startswith("GPU 1: its kernels have not been tested")
        assert log.launched_on  # all kernels are in use until then


def test_verdicts_switch_families_off(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, switch: Switch
) -> None:
    switch(VGG_CUDA_CACHE=str(tmp_path))
    verdicts = {
        "halo": Verdict("wrong", "conv3x3 differs by 3e-1"), "swap_ab": Verdict("ok"),
        "dense": Verdict("hung"), "fused_conv1_block": Verdict("ok"), "early": Verdict("wrong"),
        "graph": Verdict("crashed"),
    }  # fmt: skip
    with fake_gpus(monkeypatch, (9, 0), (9, 0)) as log:
        monkeypatch.setattr(families, "read_verdicts", read_verdicts)
        header = device_header(_C.device_info()["devices"][0], "sm_90a")
        write_verdicts(header, verdicts)
        assert plan_of("cuda")["family"] == "swap_ab"
        assert shown(model) == [
            "GPU 0: slower kernels or launches replace halo (self-test: wrong results: conv3x3 "
            "differs by 3e-1), dense (self-test: did not end), early launches (self-test: wrong "
            "results), CUDA graphs (self-test: crashed); `vgg-cuda selftest` tests them again"
        ]
        y = model()(X)
        graph = model().capture(X.shape)
        assert np.array_equal(np.asarray(graph(X).view(np.ndarray)), y)
        assert log.graphs_launched_on == []
        assert not any(log.early)
        on: Any = get_backend("cuda:1")  # another GPU
        assert on.families_off == {}
        switch(VGG_CUDA_DISABLE="halo,dense", VGG_CUDA_PDL="0")  # the user knows these
        assert shown(model) == [
            "GPU 0: slower kernels or launches replace CUDA graphs (self-test: crashed); "
            "`vgg-cuda selftest` tests them again"
        ]
        assert get_backend("emulator", "sm_90a").families_off["halo"] == DISABLE  # type: ignore[attr-defined]


def test_incomplete_verdicts(monkeypatch: pytest.MonkeyPatch) -> None:
    """An interrupted self-test leaves families without a verdict: they are on, and reported."""
    with fake_gpus(monkeypatch, (9, 0), verdicts={"halo": Verdict("ok")}):
        assert "have not been tested" in shown(model)[0]
        assert get_backend("cuda").families_off == {}  # type: ignore[attr-defined]


# ---- Lost GPUs ----


def test_lost_gpu_is_reported_on_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    with fake_gpus(monkeypatch, (9, 0)) as log:
        lost, x = model(), asarray(X)
        on: Any = lost._backend
        graph = lost.capture(X.shape)
        log.lost = True
        calls: list[Callable[[], Any]] = [
            lambda: lost(x), lambda: lost(X), lambda: graph(X), graph, on.synchronize,
            lambda: on.to_numpy(x), lambda: ops.relu(x), lambda: ops.relu(x, out=x), model,
            lambda: lost.capture(X.shape),
        ]  # fmt: skip
        for call in calls:
            with pytest.raises(DeviceLostError) as caught:
                call()
            assert isinstance(caught.value, KernelError)
            text = str(caught.value)
            assert text.startswith("cuda:0 failed (")
            assert "cudaErrorIllegalAddress: an illegal memory access was encountered): " in text
            assert text.endswith(
                "its results are lost and this process cannot use it again; restart the program, "
                "and run `vgg-cuda selftest` if the failure returns"
            )
            assert "\n" not in text
        assert (log.streams, log.device) == ([0], 0)


def test_other_errors_of_cupy_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CUDARuntimeError, "status", 1)
    with fake_gpus(monkeypatch, (9, 0)) as log:
        log.lost = True
        with pytest.raises(CUDARuntimeError):
            get_backend("cuda").synchronize()
