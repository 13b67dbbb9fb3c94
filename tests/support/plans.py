"""Plans of 3x3 convolutions with defaults, and the arithmetic of plan tests."""

from __future__ import annotations

from typing import Any

from support.kernel_reference import numpy_dtype

from vgg_cuda import _C


def layer_id(layer: tuple[int, int, int, bool]) -> str:
    return "h{}-c{}-k{}".format(*layer) + "-pool" * layer[3]


def ceil_div(a: int, b: int) -> int:
    return -(-a // b)


def conv(n: int, h: int, c: int, k: int, arch: _C.Arch, **given: Any) -> _C.Plan:
    options: dict[str, Any] = {"dtype": "float16", "relu": True, "pool": False, "aligned": True}
    options.update(given)
    options.setdefault("x_dtype", numpy_dtype(options["dtype"]).name)
    return _C.plan_conv3x3(n, h, h, c, k, arch=arch, **options)
