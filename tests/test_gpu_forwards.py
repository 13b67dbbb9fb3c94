"""Whole forwards on a GPU: graphs, predicted memory, batches that do not fit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from kernel_reference import draw
from tolerance import relative_l2

from vgg_cuda import VGG
from vgg_cuda.backends import recording, why_missing
from vgg_cuda.configs import Config
from vgg_cuda.weights import he_weights

MISSING = why_missing("cuda")
pytestmark = [pytest.mark.gpu, pytest.mark.skipif(MISSING is not None, reason=str(MISSING))]

SMALL = Config("small", (8, 16, "M", 16, "M", 24, "M", 24, "M", 32, "M"), (48, 48, 8))
SHAPE = (4, 64, 48, 3)


@pytest.fixture(scope="module")
def cupy() -> Any:
    import cupy

    return cupy


@pytest.fixture
def model() -> VGG:
    return VGG(he_weights(SMALL, 3), device="cuda")


def bits(cupy: Any, y: Any) -> bytes:
    return bytes(cupy.asnumpy(y).tobytes())


def test_a_graph_is_the_call_again(cupy: Any, model: VGG) -> None:
    graph = model.capture(SHAPE)
    for seed in range(3):
        x = draw(SHAPE, "float16", seed=seed)
        expected = bits(cupy, model(cupy.asarray(x)))
        for given in (x, cupy.asarray(x)):
            graph.y.fill(0)
            assert bits(cupy, graph(given)) == expected
        graph.x.set(x)
        stream = cupy.cuda.Stream(non_blocking=True)
        cupy.cuda.get_current_stream().synchronize()
        with stream:
            graph.y.fill(0)
            y = graph()
        stream.synchronize()
        assert bits(cupy, y) == expected


def test_a_graph_of_pixels_and_pytorch(cupy: Any, model: VGG) -> None:
    torch = pytest.importorskip("torch")
    pixels = draw(SHAPE, "uint8")
    expected = bits(cupy, model(cupy.asarray(pixels)))
    graph = model.capture(SHAPE, "uint8")
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        y = graph(torch.as_tensor(pixels, device="cuda"))
        assert isinstance(y, torch.Tensor)
        assert y.cpu().numpy().tobytes() == expected


def test_memory_is_what_a_call_takes(cupy: Any, model: VGG) -> None:
    """The pool rounds every allocation up to 512 bytes."""
    memory = model.memory(SHAPE)
    x = draw(SHAPE, "float16")
    expected = bits(cupy, model(x))
    pool = cupy.get_default_memory_pool()
    used, limit = pool.used_bytes(), pool.get_limit()
    needed = memory.total - memory.weights
    pool.free_all_blocks()
    try:
        pool.set_limit(size=used + needed + 3 * 512)
        with recording() as launched:
            assert bits(cupy, model(x)) == expected
        whole = len(launched)
        pool.free_all_blocks()
        pool.set_limit(size=used + needed - 512)
        with recording() as launched:
            assert np.isfinite(cupy.asnumpy(model(x))).all()
        assert len(launched) > whole  # in parts
        pool.free_all_blocks()
        pool.set_limit(size=used + 1024)
        with pytest.raises(MemoryError):
            model(x)
    finally:
        pool.set_limit(size=limit)


def test_a_batch_larger_than_the_gpu(cupy: Any) -> None:
    """Its activations would take several times the memory there is; its pixels do not."""
    model = VGG(he_weights(Config("vgg11", SMALL.widths, ()), 3), device="cuda")
    free = cupy.cuda.runtime.memGetInfo()[0]
    one = model.memory((1, 512, 512, 3), "uint8")
    n = int(1.5 * free / one.arena)
    if n * one.input > free // 4 or n * one.input > 16 * 10**9:
        pytest.skip(f"{n} images would take too long")
    x = cupy.zeros((n, 512, 512, 3), np.uint8)
    x[-1] = 200
    y = model(x)
    assert y.shape == (n, 16, 16, 32)
    assert bits(cupy, y[0]) == bits(cupy, y[1])
    for i in (0, n - 1):  # alone, its sums may be split otherwise
        alone, among = (cupy.asnumpy(z)[0] for z in (model(x[i : i + 1]), y[i : i + 1]))
        assert relative_l2(among, alone) <= len(model.config.convs) * np.finfo(np.float16).eps
