"""Whole forwards on a GPU: graphs, predicted memory, batches that do not fit."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from support.kernel_reference import draw
from support.tolerance import relative_l2

from vgg_cuda import VGG
from vgg_cuda.backends import recording
from vgg_cuda.configs import Config
from vgg_cuda.images.normalization import Normalization
from vgg_cuda.weights import he_weights

pytestmark = pytest.mark.gpu

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


def test_graph_repeats_the_call(cupy: Any, model: VGG) -> None:
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


def test_input_layers_of_calls_and_graphs(cupy: Any) -> None:
    own = Normalization((1 / 64, 1 / 32, 1 / 16), (-2.0, -1.0, -3.0), reverse=True)
    model = VGG(replace(he_weights(SMALL, 3), normalization=own), device="cuda", dtype="float32")
    pixels = draw(SHAPE, "uint8")
    x = pixels.astype(np.float32)
    plain = VGG(he_weights(SMALL, 3), device="cuda", dtype="float32")
    expected = plain(own(x))
    assert relative_l2(model(x), expected) < 1e-6
    on_device = cupy.asarray(x)
    assert relative_l2(cupy.asnumpy(model(on_device)), expected) < 1e-6
    assert relative_l2(cupy.asnumpy(model.capture(SHAPE, "float32")(on_device)), expected) < 1e-6


def test_graph_of_pixels_and_pytorch(cupy: Any, model: VGG) -> None:
    torch = pytest.importorskip("torch")
    pixels = draw(SHAPE, "uint8")
    expected = bits(cupy, model(cupy.asarray(pixels)))
    graph = model.capture(SHAPE, "uint8")
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        y = graph(torch.as_tensor(pixels, device="cuda"))
        assert isinstance(y, torch.Tensor)
        assert y.cpu().numpy().tobytes() == expected


@pytest.fixture
def pool(cupy: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Replace this process's fragmented memory pool of CuPy by an empty one."""
    outer, pool = cupy.cuda.get_allocator(), cupy.cuda.MemoryPool()
    monkeypatch.setattr(cupy, "get_default_memory_pool", lambda: pool)
    cupy.cuda.set_allocator(pool.malloc)
    yield pool
    cupy.cuda.set_allocator(outer)


def leave(pool: Any, nbytes: int) -> None:
    """Limit further allocations to this size; the pool rounds each up to 512 bytes."""
    pool.free_all_blocks()
    pool.set_limit(size=pool.used_bytes() + nbytes)


def test_predicted_memory_is_what_a_call_takes(cupy: Any, pool: Any, model: VGG) -> None:
    memory = model.memory(SHAPE)
    x = draw(SHAPE, "float16")
    expected = bits(cupy, model(x))
    needed = memory.total - memory.weights
    leave(pool, needed + 3 * 512)
    with recording() as launched:
        assert bits(cupy, model(x)) == expected
    whole = len(launched)
    leave(pool, needed - 512)
    with recording() as launched:
        assert np.isfinite(cupy.asnumpy(model(x))).all()
    assert len(launched) > whole  # in parts
    leave(pool, 1024)
    with pytest.raises(MemoryError):
        model(x)


def test_batch_larger_than_memory_is_split(cupy: Any, pool: Any, model: VGG) -> None:
    """The tensors between layers need eight times the free memory; the pixels fit."""
    n = 64
    x = cupy.asarray(draw((n, *SHAPE[1:]), "uint8"))
    eighth = model.memory((n // 8, *SHAPE[1:]), "uint8")
    results = model.memory(x.shape, "uint8").results
    # room for the whole result beside what one part takes
    leave(pool, eighth.arena + eighth.results + results + 3 * 512)
    assert model.memory(x.shape, "uint8").arena > pool.get_limit() - pool.used_bytes()
    with recording() as launched:
        y = model(x)
    with recording() as once:
        first = model(x[:1])
    assert len(launched) == 8 * len(once)
    assert y.shape == (n, SMALL.head[-1])
    for i in (0, n // 2, n - 1):  # a single image may split its sums differently
        alone = first if i == 0 else model(x[i : i + 1])
        error = relative_l2(cupy.asnumpy(y[i : i + 1]), cupy.asnumpy(alone))
        assert error <= (len(SMALL.convs) + len(SMALL.head)) * np.finfo(np.float16).eps
