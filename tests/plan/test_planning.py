"""``vgg-cuda plan``: every layer with its sizes, and the time bounds that follow from them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from vgg_cuda import _C

if not _C.built_with_cuda():
    pytest.skip("built without CUDA", allow_module_level=True)

from vgg_cuda.cli.plan_table import HEADINGS, table
from vgg_cuda.configs import CONFIGS, get_config
from vgg_cuda.planning import NetworkPlan, plan_network
from vgg_cuda.planning.roofline import CEILINGS
from vgg_cuda.summary import rows

ARCHES = tuple(CEILINGS)


def plan(network: str = "vgg16", batch: int = 64, **options: Any) -> NetworkPlan:
    return plan_network(get_config(network), batch=batch, **options)


@pytest.mark.parametrize("arch", ARCHES)
@pytest.mark.parametrize("network", CONFIGS)
@pytest.mark.parametrize("batch", [1, 7, 64])
@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_every_layer_is_planned_once(network: str, batch: int, dtype: str, arch: str) -> None:
    found = plan(network, batch, dtype=dtype, arch=arch)
    config = get_config(network)
    names = " ".join(layer.layer for layer in found.layers).split()
    layers = [*config.features, *config.dense]
    assert names == [*(layer.name for layer in layers), "softmax"]
    flops = sum(row.flops for row in rows(config, 224))
    assert 2 * sum(layer.macs for layer in found.layers) == batch * flops
    weights = 2 if dtype == "float16" else 4
    parameters = sum(row.parameters for row in rows(config, 224))
    assert sum(layer.bytes for layer in found.layers) > parameters * weights
    for layer in found.layers:
        assert 0 < layer.floor_us <= layer.tiled_us, layer
        if layer.macs:
            assert layer.useful is not None
            assert layer.wave_efficiency is not None
            assert 0 < layer.useful <= 1, layer
            assert 0 < layer.wave_efficiency <= 1, layer
            assert layer.kernels[0] in _C.kernels()
    assert found.roofline_us < found.floor_us < found.tiled_us


def test_floor_is_memory_or_arithmetic_time() -> None:
    """Computed by hand: at N = 2, VGG-16's conv3_2 is bound by arithmetic, fc6 by its weights."""
    layers = {layer.layer: layer for layer in plan(batch=2).layers}
    conv, fc6 = layers["conv3_2"], layers["fc6"]
    assert conv.bytes == 2 * (2 * 2 * 56 * 56 * 256 + 9 * 256 * 256) + 4 * 256
    assert conv.floor_us == pytest.approx(1e6 * 2 * 2 * 56 * 56 * 256 * 9 * 256 / 790e12)
    assert fc6.bytes == 2 * (2 * (25088 + 4096) + 25088 * 4096) + 4 * 4096
    assert fc6.floor_us == pytest.approx(1e6 * fc6.bytes / 4.3e12)


def test_tiled_time_includes_waste() -> None:
    """On sm_80 with N = 1, conv2_1 has 98 tiles for 108 SMs, and conv5_1 is split."""
    layers = {layer.layer: layer for layer in plan(batch=1, arch="sm_80").layers}
    conv2, conv5 = layers["conv2_1"], layers["conv5_1"]
    assert conv2.tiles == 98
    assert conv2.wave_efficiency == 98 / 108
    assert conv2.tiled_us == pytest.approx(conv2.floor_us * 108 / 98)
    assert conv5.split_k > 1
    assert conv5.workspace_bytes == conv5.split_k * 14 * 14 * 512 * 4
    assert conv5.kernels[1].startswith("reduce_")


def test_uint8_input_has_a_quarter_of_the_bytes() -> None:
    floats, pixels = (plan(x_dtype=x).layers[0] for x in ("float32", "uint8"))
    assert floats.bytes - pixels.bytes == 64 * 224 * 224 * 3 * 3


def test_json_is_plain_and_complete() -> None:
    found = plan(batch=3, arch="sm_90a")
    read = json.loads(json.dumps(found.as_dict(), allow_nan=False))
    assert read["total"]["floor_us"] == found.floor_us
    assert read["total"]["launches"] == sum(len(layer["kernels"]) for layer in read["layers"])
    assert len(read["layers"]) == len(found.layers)
    assert (read["network"], read["batch"], read["arch"]) == ("vgg16", 3, "sm_90a")


def test_loads_are_fractions_of_the_main_loop() -> None:
    """Portable kernels read shared memory as part of their products; softmax has no estimate."""
    for arch in ("sm_80", "sm_90a"):
        for layer in plan(arch=arch).layers:
            if layer.layer == "softmax":
                assert (layer.estimate, layer.port_load, layer.l2_load) == ({}, None, None)
                continue
            main = layer.estimate["main_cycles"]
            assert layer.l2_load == layer.estimate["l2_cycles"] / main <= 1
            assert (layer.port_load is None) == (layer.family == "portable")
            if layer.port_load is not None:
                assert layer.port_load == layer.estimate["port_cycles"] / main < 1
    found = plan()
    headings = table(found).splitlines()[0]
    fc6 = next(line for line in table(found).splitlines() if line.startswith("fc6"))
    assert fc6[: headings.index("port") + 4].split()[-1].endswith("%")
    assert fc6[: headings.index("L2") + 2].split()[-1] == "100%"  # streams its weights


def test_table_has_a_line_per_layer() -> None:
    found = plan(batch=3, arch="sm_80")
    lines = table(found).splitlines()
    assert [line.split()[0] for line in lines[2 : 2 + len(found.layers)]] == [
        layer.layer.split()[0] for layer in found.layers
    ]
    assert all(heading in lines[0] for heading in HEADINGS)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"arch": "sm_70"}, "arch: expected one of sm_80, .* got 'sm_70'"),
        ({"arch": "sm_121"}, "arch: expected one with known rates .*, got 'sm_121'"),
        ({"dtype": "int8"}, "dtype: expected one of float16, .* got 'int8'"),
        ({"x_dtype": "float64"}, "x_dtype: expected one of uint8, float32, got 'float64'"),
        ({"size": 31}, "size: expected H and W >= 32 .*, got H = 31 and W = 31"),
        ({"batch": 10**8}, r"conv3x3: N\*H\*W must be less than"),
        ({"batch": 10**20}, r"batch: expected 1 to 2\^31 - 1, got 1000"),
        ({"batch": 0}, r"batch: expected 1 to 2\^31 - 1, got 0"),
        ({"size": 10**20}, r"size: expected 1 to 2\^31 - 1, got 1000"),
    ],
)
def test_invalid_arguments_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        plan(**options)


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "vgg_cuda", "plan", *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=120, check=False,
        cwd=Path(__file__).parent,  # a clone's package would hide the installed one
    )  # fmt: skip


def test_command_prints_json_and_a_table() -> None:
    done = run("vgg16", "--batch", "64", "--arch", "sm_90a", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout) == json.loads(json.dumps(plan().as_dict()))
    done = run("digits", "--size", "32", "--uint8")
    assert done.returncode == 0
    assert done.stdout.splitlines()[0].split()[0] == "layer"


@pytest.mark.parametrize("arguments", [["vgg17"], ["vgg16", "--arch", "sm_1"]])
def test_command_refuses_in_one_line(arguments: list[str]) -> None:
    done = run(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
