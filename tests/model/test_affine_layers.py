"""Networks with scales and shifts between layers: names, sizes, plans, and memory of a GPU."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support.fake_cupy import Log, fake_gpus
from support.kernel_reference import draw
from support.tolerance import assert_close

from vgg_cuda import VGG, reference, verify
from vgg_cuda.bench.layers import network_layers
from vgg_cuda.configs import Affine, Config
from vgg_cuda.layers import aliases, resolve_layer, taps
from vgg_cuda.planning import plan_network
from vgg_cuda.summary import rows
from vgg_cuda.weights import he_weights

AFTER = ("conv1_2", "pool1", "conv2_1")
CONFIG = Config("x", (64, 64, "M", 16), (5,), pool_grid=1, affine_after=AFTER)
WEIGHTS = he_weights(CONFIG, 2)
X = draw((2, 9, 8, 3), "float32")


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> Iterator[Log]:
    with fake_gpus(monkeypatch, (9, 0)) as log:
        yield log


def test_affine_layers_have_names_and_taps() -> None:
    assert CONFIG.affines == (
        Affine("affine1_2", 64), Affine("affine1", 64), Affine("affine2_1", 16),
    )  # fmt: skip
    known = taps(CONFIG)
    assert known[2:8] == ["conv1_2", "relu1_2", "affine1_2", "pool1", "affine1", "conv2_1"]
    assert resolve_layer(CONFIG, "features.4") == "affine1_2"
    assert resolve_layer(CONFIG, "features.6") == "affine1"
    assert set(aliases(CONFIG).values()) <= set(known)
    assert Config("x", (8,), (), affine_after=("conv1_1",)).last == "affine1_1"
    expected = reference.forward(WEIGHTS, X)
    for tap, y in VGG(WEIGHTS, device="cpu").features(X, known).items():
        assert_close(y, expected[tap], what=tap)


@pytest.mark.parametrize("after", [("conv1_3",), ("relu1_1",), ("pool1", "pool1")])
def test_affine_after_unknown_layers_is_refused(after: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match=f"x: affine_after: .* got {', '.join(after)}"):
        Config("x", (64, 64, "M", 16), (5,), pool_grid=1, affine_after=after)


def test_summary_and_plan_count_affine_layers() -> None:
    row = rows(CONFIG, (9, 8))[3]
    assert (row.layer, row.size, row.parameters, row.flops) == ("affine1_2", "9x8x64", 128, 9216)
    plan = {layer.layer: layer for layer in plan_network(CONFIG, batch=2, size=(9, 8)).layers}
    assert plan["affine1_2"].kernels == ["affine_f16_v8"]
    assert plan["affine1_2"].bytes == 2 * 2 * (2 * 9 * 8 * 64) + 2 * 4 * 64


def test_benchmark_refuses_affine_layers() -> None:
    with pytest.raises(ValueError, match=r"x: expected .* got affine1_2, a scale and shift"):
        network_layers(CONFIG)


@pytest.mark.emulator
def test_affine_follows_the_fused_block() -> None:
    config = Config("x", (64, 64, "M", 8), (), affine_after=("pool1",))
    weights = he_weights(config, 1)
    found = verify(VGG(weights, device="emulator", arch="sm_90a"), weights, X)
    assert found.ok, found.table()
    assert [row.kernels[0] for row in found.rows[:2]] == ["fused_conv1_block_f16", "affine_f16_v8"]


def test_affine_layers_on_a_gpu(log: Log) -> None:
    model = VGG(WEIGHTS, device="cuda", dtype="float32", arch="sm_80")
    assert_close(model(X), VGG(WEIGHTS, device="cpu")(X))
    without = VGG(he_weights(Config("x", CONFIG.widths, (5,), 1), 2), device="cuda")
    more = model.memory(X.shape).weights
    assert more - VGG(without.weights, device="cuda", dtype="float32").memory(X.shape).weights == (
        8 * (64 + 64 + 16)
    )
