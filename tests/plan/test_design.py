"""Design goals of the Hopper plans for VGG-16 with 64 images.

tests/kernels/test_kernels.py checks in the emulator that launches issue the multiply-adds and load
the bytes that their plans state.
"""

from __future__ import annotations

import pytest

from vgg_cuda import _C

if not _C.built_with_cuda():
    pytest.skip("built without CUDA", allow_module_level=True)

from vgg_cuda.configs import get_config
from vgg_cuda.planning import LayerPlan, plan_network

BATCH = 64
PLAN = plan_network(get_config("vgg16"), batch=BATCH, x_dtype="uint8", arch="sm_90a")
CONVOLUTIONS = [p for p in PLAN.layers if p.layer.startswith("conv")]
DENSE = [p for p in PLAN.layers if p.layer.startswith("fc")]
each_convolution = pytest.mark.parametrize("p", CONVOLUTIONS, ids=lambda p: p.layer)
each_dense = pytest.mark.parametrize("p", DENSE, ids=lambda p: p.layer)


def test_fused_conv1_block_is_one_launch() -> None:
    """The tensor between its convolutions, 224x224x64, is never written to memory."""
    first = CONVOLUTIONS[0]
    assert first.layer == "conv1_1 conv1_2 pool1"
    assert len(first.kernels) == 1
    between = BATCH * 224 * 224 * 64 * 2
    assert first.load_bytes < between
    assert first.store_bytes == between // 4


@each_convolution
def test_tiles_waste_little(p: LayerPlan) -> None:
    """Most multiply-adds are useful, and SMs have a tile most of the time."""
    block = int(p.layer.removeprefix("conv")[0])
    assert p.useful is not None
    assert p.wave_efficiency is not None
    assert p.useful >= (0.90 if block in (1, 4, 5) else 0.95)  # block 1 computes halos twice
    assert p.useful * p.wave_efficiency >= (0.79 if block == 5 else 0.90)


@each_convolution
def test_convolutions_run_in_one_launch(p: LayerPlan) -> None:
    assert all("_first_" not in kernel and "gemm" not in kernel for kernel in p.kernels)
    assert p.split_k == 1
    assert p.workspace_bytes == 0
    assert len(p.kernels) == 1
    assert p.early == [p is not CONVOLUTIONS[0]]  # which waits for work outside the forward
    assert p.block == 384
    assert p.smem_bytes > 180_000  # rings have as many stages as fit


@pytest.mark.parametrize("p", CONVOLUTIONS[1:], ids=lambda p: p.layer)
def test_halos_are_loaded_once(p: LayerPlan) -> None:
    """An im2col matrix product of the same tile loads each pixel for each of nine taps."""
    assert p.im2col_load_bytes is not None
    assert p.load_bytes <= 0.6 * p.im2col_load_bytes


@each_dense
def test_weights_are_streamed_once(p: LayerPlan) -> None:
    """Every array is moved once, with few partial sums.

    Each tile of 128 features loads all images from the L2 cache, which is half as much as its
    weights. fc8 has two tiles of images.
    """
    assert p.bytes / (p.bytes + 2 * p.workspace_bytes) >= 0.85
    assert p.load_bytes <= (2.6 if p.layer == "fc8" else 1.55) * p.bytes
    assert p.wave_efficiency is not None
    assert p.wave_efficiency >= 0.9
    assert p.early == [True]


def test_forward_is_near_its_floor() -> None:
    """Ragged tiles and idle SMs cost at most a tenth of the time."""
    assert PLAN.floor_us / PLAN.tiled_us >= 0.9
