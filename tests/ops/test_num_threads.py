"""The number of CPU threads: affinity, cgroup quotas, OMP_NUM_THREADS and set_num_threads."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import vgg_cuda
from vgg_cuda.backends.threads import run_blocks
from vgg_cuda.images.batches import batches
from vgg_cuda.images.presets import Preset
from vgg_cuda.system import cpus


@pytest.fixture(autouse=True)
def _default_number() -> Iterator[None]:
    yield
    cpus._chosen = None


def counted(environment: dict[str, str], *affinity: int) -> int:
    pin = f"os.sched_setaffinity(0, {set(affinity)}); " if affinity else ""
    code = f"import os; {pin}import vgg_cuda; print(vgg_cuda.get_num_threads())"
    env = {k: v for k, v in os.environ.items() if k != "OMP_NUM_THREADS"} | environment
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, check=True)
    return int(done.stdout)


def test_environment_and_affinity_count() -> None:
    assert counted({"OMP_NUM_THREADS": "3,2"}) == 3
    assert counted({"OMP_NUM_THREADS": "many"}) == cpus.cores()
    assert counted({}, min(os.sched_getaffinity(0))) == 1


def workers() -> set[str]:
    names, meeting = set(), threading.Barrier(vgg_cuda.get_num_threads())

    def job(_: int) -> None:
        meeting.wait(10)  # all workers run at once
        names.add(threading.current_thread().name)

    run_blocks(job, range(vgg_cuda.get_num_threads()))
    return names


def test_set_num_threads_counts_from_the_next_call_on() -> None:
    for count in (4, np.int64(3)):
        vgg_cuda.set_num_threads(count)
        assert vgg_cuda.get_num_threads() == len(workers()) == count
    vgg_cuda.set_num_threads(1)
    assert workers() == {threading.current_thread().name}


def test_set_num_threads_limits_decoding() -> None:
    vgg_cuda.set_num_threads(1)
    for _ in batches([np.zeros((4, 4, 3), np.uint8)] * 9, Preset("small", (8, 8), None), 1):
        names = [thread.name for thread in threading.enumerate()]
        assert sum(name.startswith("decode") for name in names) <= 1


def test_calls_survive_a_changed_number() -> None:
    stop, errors, done = threading.Event(), list[BaseException](), list[int]()

    def compute() -> None:
        try:
            while not stop.is_set():
                run_blocks(done.append, [1, 2, 3])
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=compute)
    thread.start()
    for i in range(60):
        vgg_cuda.set_num_threads(2 + i % 3)
        run_blocks(lambda _: None, [1, 2])
    stop.set()
    thread.join()
    assert not errors
    assert len(done) % 3 == 0


@pytest.mark.parametrize(("value", "error"), [(0, ValueError), (2.0, TypeError), ("2", TypeError)])
def test_bad_numbers_are_refused(value: object, error: type[Exception]) -> None:
    with pytest.raises(error, match="num_threads: expected"):
        vgg_cuda.set_num_threads(value)  # type: ignore[arg-type]


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_cgroup_quotas_are_found(tmp_path: Path) -> None:
    process, root = tmp_path / "cgroup", tmp_path / "root"
    process.write_text("0::/pod/app\n")
    assert list(cpus.quotas(process, root)) == []
    write(root / "pod" / "app" / "cpu.max", "max 100000\n")
    write(root / "pod" / "cpu.max", "150000 100000\n")
    write(root / "cpu.max", "800000 100000\n")
    assert list(cpus.quotas(process, root)) == [1.5, 8]
    process.write_text("3:cpuset:/\n2:cpu,cpuacct:/docker/1\n")
    assert list(cpus.quotas(process, root)) == []
    for name, text in (("quota", "50000\n"), ("period", "100000\n")):
        write(root / "cpu,cpuacct" / f"cpu.cfs_{name}_us", text)  # as inside a container
    assert list(cpus.quotas(process, root)) == [0.5]
    write(root / "cpu,cpuacct" / "cpu.cfs_quota_us", "-1\n")
    assert list(cpus.quotas(process, root)) == []


def test_quota_limits_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(16)))
    for quotas, expected in (([], 16), ([1.5, 8.0], 2), ([0.2], 1)):
        monkeypatch.setattr(cpus, "quotas", lambda quotas=quotas: quotas)
        assert cpus.cores.__wrapped__() == expected
