"""Run every kernel once on small ragged shapes, for compute-sanitizer.

``python -m gpu.sanitized --device cuda --seconds 40``, with ``bench`` and ``tests`` on the
PYTHONPATH. On a GPU, memory comes directly from the driver, so that the tool knows the bounds of
each array. Before each case the number of kernels that ran is printed, which shows where a killed
run ended.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from support.kernel_cases import Case, all_cases

from vgg_cuda import _C
from vgg_cuda.backends import get_backend


def reduced(cases: list[Case]) -> dict[str, Case]:
    """Return for every kernel the case with the fewest multiply-adds."""
    found: dict[str, tuple[int, Case]] = {}
    for case in cases:
        plan = case.plan()
        for launch in plan.as_dict()["launches"]:
            work = found.get(launch["kernel"], (plan.macs + 1, case))[0]
            if plan.macs < work:
                found[launch["kernel"]] = plan.macs, case
    return {kernel: case for kernel, (_, case) in found.items()}


def on_device(device: str) -> Callable[[np.ndarray], Any]:
    """Return a function that copies arrays to the device."""
    if not device.startswith("cuda"):
        return lambda x: x
    import cupy

    cupy.cuda.set_allocator(None)
    return lambda x: cupy.asarray(x)


def runnable(case: Case, device: str) -> bool:
    """Return whether the device can run the case's plan and hold its dtypes."""
    dtypes = {case.dtype, getattr(case, "x_dtype", "") or case.dtype}
    if not dtypes <= {*get_backend(device).precisions, "uint8"}:
        return False
    if not device.startswith("cuda"):
        return True
    major, minor = _C.device_info()["devices"][0]["compute_capability"]
    return _C.can_run(_C.arch(case.arch), major, minor)


def unable(cases: dict[str, Case], device: str) -> str:
    """Return how many bfloat16 kernels are left out if the device's arrays lack bfloat16."""
    left = [kernel for kernel in _C.kernels() if kernel not in cases and "_bf16" in kernel]
    if not left or "bfloat16" in get_backend(device).precisions:
        return ""
    return f"{len(left)} left out: CuPy holds no bfloat16 here"


def main() -> None:
    """Run the cases until the time is up."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--seconds", type=float, default=40)
    args = parser.parse_args()
    end = time.monotonic() + args.seconds
    cases = reduced([case for case in all_cases() if runnable(case, args.device)])
    place = on_device(args.device)
    ran: set[str] = set()
    for case in dict.fromkeys(cases.values()):
        said = f"{len(ran)} of {len(_C.kernels())} kernels ran"
        if time.monotonic() > end:
            print(f"{said}; the time is up", flush=True)
            break
        print(f"{said}; {case.op} {case.id}", flush=True)
        case.run(place, device=args.device, arch=case.arch)
        ran |= {kernel for kernel, its in cases.items() if its is case}
    if args.device.startswith("cuda"):
        import cupy

        cupy.cuda.Device().synchronize()
    print(f"{len(ran)} of {len(_C.kernels())} kernels ran", unable(cases, args.device), sep="\n")


if __name__ == "__main__":
    main()
