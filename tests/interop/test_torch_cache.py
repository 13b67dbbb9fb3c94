"""Cache of packed PyTorch weights: changes, identity and lifetime of tensors."""

from __future__ import annotations

import copy
import gc
import io
import os
import signal
import weakref
from collections.abc import Callable
from threading import Barrier, Thread

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from support.tolerance import assert_close

from vgg_cuda.interop import torch_cache, torch_ops
from vgg_cuda.interop.torch_cache import PackedCache


class Packed:
    """A copy of the values, in place of packed weights."""

    def __init__(self, *tensors: torch.Tensor) -> None:
        self.values = [tensor.detach().clone() for tensor in tensors]


def packed(cache: PackedCache, *tensors: torch.Tensor | None, how: str = "") -> Packed:
    return cache.get(tensors, how, lambda: Packed(*(t for t in tensors if t is not None)))


def parameter(*shape: int) -> torch.nn.Parameter:
    return torch.nn.Parameter(torch.randn(shape or (4,)))


# ---- Changes ----


def test_unchanged_tensors_are_packed_once() -> None:
    cache, w, bias = PackedCache(), parameter(), parameter()
    first = packed(cache, w, bias)
    w.grad = torch.ones(4)
    w.requires_grad_(False)
    assert packed(cache, w, bias) is first
    assert packed(cache, w, None) is not first
    assert packed(cache, w, bias, how="another op") is not first
    assert len(cache) == 3


def write_in_place(w: torch.nn.Parameter) -> None:
    with torch.no_grad():
        w.mul_(2)


def write_in_inference_mode(w: torch.nn.Parameter) -> None:
    with torch.inference_mode():
        w.mul_(2)


def write_through_a_view(w: torch.nn.Parameter) -> None:
    with torch.no_grad():
        w.view(-1)[2] = 7


def write_through_detach(w: torch.nn.Parameter) -> None:
    w.detach().zero_()


def step(w: torch.nn.Parameter) -> None:
    w.square().sum().backward()
    torch.optim.SGD([w], lr=0.1).step()


def fused_sgd(w: torch.nn.Parameter) -> None:
    fused(torch.optim.SGD([w], lr=0.1, fused=True), w)


def fused_adamw(w: torch.nn.Parameter) -> None:
    fused(torch.optim.AdamW([w], lr=0.1, fused=True), w)


def fused(optimizer: torch.optim.Optimizer, w: torch.nn.Parameter) -> None:
    w.grad = torch.ones_like(w)
    version = w._version
    optimizer.step()
    assert w._version == version, "PyTorch counts it now: torch_state needs no hook"


def load(w: torch.nn.Parameter) -> None:
    module = torch.nn.Module()
    module.w = w
    module.load_state_dict({"w": torch.arange(4.0)})


def another_storage(w: torch.nn.Parameter) -> None:
    w.data = torch.arange(4.0)


def another_dtype_and_back(w: torch.nn.Parameter) -> None:
    module = torch.nn.Module()
    module.w = w
    module.half().float()


def another_order(w: torch.nn.Parameter) -> None:
    w.data = w.data.flip(0)


CHANGES = [
    write_in_place, write_in_inference_mode, write_through_a_view, write_through_detach, step, load,
    another_storage, another_dtype_and_back, another_order, fused_sgd, fused_adamw,
]  # fmt: skip


@pytest.mark.parametrize("second", [False, True], ids=["w", "bias"])
@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_changes_are_noticed(change: Callable[[torch.nn.Parameter], None], second: bool) -> None:
    cache, tensors = PackedCache(), (parameter(), parameter())
    stale = packed(cache, *tensors)
    change(tensors[second])
    fresh = packed(cache, *tensors)
    assert fresh is not stale
    assert torch.equal(fresh.values[second], tensors[second])
    assert packed(cache, *tensors) is fresh
    assert len(cache) == 1


def test_transposed_view_is_another_tensor() -> None:
    cache, w = PackedCache(), torch.nn.Parameter(torch.randn(3, 3))
    stale = packed(cache, w)
    w.data = w.data.t()  # the same address, shape and version
    assert packed(cache, w) is not stale


def test_writes_through_data_need_a_refresh() -> None:
    x, w = torch.randn(1, 2, 4, 4), parameter(3, 2, 3, 3).requires_grad_(False)
    before = torch_ops.conv3x3(x, w)
    w.data.mul_(2)
    assert torch.equal(torch_ops.conv3x3(x, w), before)  # documented
    torch_cache.refresh()
    assert_close(torch_ops.conv3x3(x, w), F.conv2d(x, w, padding=1))


def test_inference_tensors_are_always_packed() -> None:
    cache = PackedCache()
    with torch.inference_mode():
        w = torch.ones(4)
        first = packed(cache, w)
        w.mul_(2)
        assert torch.equal(packed(cache, w).values[0], w)
        assert packed(cache, w, parameter()) is not first
    assert len(cache) == 0


def test_write_during_packing_is_noticed() -> None:
    cache, w = PackedCache(), torch.ones(4)

    def pack() -> Packed:
        found = Packed(w)
        w.mul_(2)  # as by another thread
        return found

    cache.get((w,), "", pack)
    assert torch.equal(packed(cache, w).values[0], w)


def test_error_of_pack_leaves_no_entry() -> None:
    cache, w = PackedCache(), parameter()
    with pytest.raises(ZeroDivisionError):
        cache.get((w,), "", lambda: 1 // 0)
    assert len(cache) == 0
    assert packed(cache, w) is packed(cache, w)


def test_compared_values() -> None:
    """A batch norm updates its statistics without a new version."""
    cache, w, norm = PackedCache(), parameter(), torch.nn.BatchNorm1d(4)
    mean = norm.running_mean

    def run() -> Packed:
        return cache.get((w, mean), "", lambda: Packed(w, mean), compared=(mean,))

    stale, version = run(), mean._version
    assert run() is stale
    norm(torch.randn(8, 4))
    assert mean._version == version, "PyTorch counts it now: comparing may go"
    assert torch.equal(run().values[1], mean)
    assert run() is run()


# ---- Identity ----


def test_swapped_tensors() -> None:
    """Convert modules by swapping tensors, which fails for tensors with weak references."""
    cache, a, b = PackedCache(), parameter(), parameter()
    of_a = packed(cache, a)
    torch.utils.swap_tensors(a, b)
    fresh = packed(cache, a)
    assert fresh is not of_a
    assert torch.equal(fresh.values[0], a)
    assert torch.equal(packed(cache, b).values[0], b)


def test_another_tensor_of_the_same_memory() -> None:
    """``w.data`` is a new tensor each time, often at the same address, with version 0."""
    cache, w, seen = PackedCache(), torch.randn(4), set()
    for _ in range(8):
        seen.add(id(data := w.data))
        del data
        assert torch.equal(packed(cache, w.data).values[0], w)
        w.mul_(2)
    assert len(seen) < 8, "no address was used twice: nothing was tested"


@pytest.mark.parametrize(
    "kind", [torch.nn.Parameter, torch.Tensor.clone], ids=["parameter", "tensor"]
)
def test_packed_tensors_are_saved_and_copied(kind: Callable[..., torch.Tensor]) -> None:
    cache, w, file = PackedCache(), kind(torch.randn(4)), io.BytesIO()
    first = packed(cache, w)
    torch.save(w, file)
    assert b"vgg_cuda.interop" not in file.getvalue()  # readable without this package
    file.seek(0)
    for twin in (torch.load(file, weights_only=True), copy.deepcopy(w)):
        assert torch.equal(twin, w)
        assert packed(cache, twin) is not first
        assert packed(cache, twin) is packed(cache, twin)
    assert packed(cache, w) is first


# ---- Lifetimes ----


@pytest.mark.parametrize("dies", [0, 1], ids=["w", "bias"])
def test_entry_is_dropped_with_any_of_its_tensors(dies: int) -> None:
    cache, tensors = PackedCache(), [parameter(), parameter()]
    here = weakref.ref(packed(cache, *tensors))
    gc.collect()
    assert here() is not None
    del tensors[dies]
    assert here() is None, "not even a cycle is left for the garbage collector"
    assert len(cache) == 0


def test_cache_holds_no_storage() -> None:
    """Dense layers are packed without a copy; their storage must be freed even so."""
    w = parameter(8, 8).requires_grad_(False)
    torch_ops.linear(torch.randn(2, 8), w)
    storage = torch.multiprocessing.reductions.StorageWeakRef(w.untyped_storage())
    assert not storage.expired()
    del w
    assert storage.expired()


def test_tensor_at_a_reused_address_is_new() -> None:
    x, seen, reused = torch.randn(1, 3, 6, 6), set(), 0
    for seed in range(60):
        w = torch.randn(16, 3, 3, 3, generator=torch.Generator().manual_seed(seed))
        reused += w.data_ptr() in seen
        seen.add(w.data_ptr())
        assert_close(torch_ops.conv3x3(x, w), F.conv2d(x, w, padding=1))
        del w
    assert reused, "the allocator gave no address twice: nothing was tested"


def test_new_storage_at_the_old_address() -> None:
    """A storage replaced twice may have the old version and address."""
    memory = np.zeros(1000, np.float32)  # reused by hand: an allocator may do so, or not
    cache, w = PackedCache(), torch.nn.Parameter(torch.from_numpy(memory))
    for number in range(3):
        packed(cache, w)
        before = w.data_ptr(), w._version
        w.data = torch.zeros(1)
        memory[:] = number + 1
        w.data = torch.from_numpy(memory)
        assert (w.data_ptr(), w._version) == before
        assert torch.equal(packed(cache, w).values[0], w)


def test_least_recently_used_entry_is_dropped() -> None:
    cache = PackedCache(max_entries=2)
    a, b, c = parameter(), parameter(), parameter()
    first, second = packed(cache, a), packed(cache, b)
    assert packed(cache, a) is first
    packed(cache, c)
    assert len(cache) == 2
    assert packed(cache, a) is first
    assert packed(cache, b) is not second


# ---- Threads and processes ----


def test_threads_get_their_own_weights() -> None:
    cache, shared, errors = PackedCache(max_entries=5), parameter(), []
    start = Barrier(4)

    def work(seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        start.wait()
        for i in range(300):
            own = torch.randn(4, generator=generator)
            if not torch.equal(packed(cache, own).values[0], own):
                errors.append(i)
            if not torch.equal(packed(cache, shared, own).values[1], own):
                errors.append(i)

    threads = [Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert len(cache) == 0


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_fork_while_the_lock_is_held() -> None:
    w = parameter(4, 4).requires_grad_(False)
    cache = torch_cache._cache
    held, done = Barrier(2), Barrier(2)

    def hold() -> None:
        with cache._lock:
            held.wait()
            done.wait()

    thread = Thread(target=hold)
    thread.start()
    held.wait()
    pid = os.fork()
    if pid == 0:
        signal.alarm(30)  # instead of blocking forever
        packed(cache, w)
        os._exit(0)
    done.wait()
    thread.join()
    assert os.waitpid(pid, 0)[1] == 0
