"""Every operation with a small input, for tests that all operations share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from support.kernel_reference import draw as draw_in

from vgg_cuda import ops


def draw(*shape: int, seed: int = 0) -> np.ndarray:
    return draw_in(shape, "float32", seed=seed)


X = draw(2, 6, 4, 8)
W, BIAS = draw(5, 3, 3, 8, seed=1), draw(5, seed=2)

Op = Callable[..., Any]
OPS: dict[str, tuple[Op, Any]] = {
    "conv3x3": (lambda x, **k: ops.conv3x3(x, W, BIAS, relu=True, **k), X),
    "pooled": (lambda x, **k: ops.conv3x3(x, W, BIAS, pool=True, **k), X),
    "linear": (lambda x, **k: ops.linear(x, draw(5, 7, seed=1), BIAS, **k), draw(3, 7)),
    "maxpool2x2": (ops.maxpool2x2, X),
    "avgpool": (lambda x, **k: ops.avgpool(x, 3, **k), X),
    "adaptive_maxpool": (lambda x, **k: ops.adaptive_maxpool(x, 3, **k), X),
    "relu": (ops.relu, X),
    "affine": (lambda x, **k: ops.affine(x, W[0, 0, 0], W[0, 0, 1], **k), X),
    "softmax": (ops.softmax, draw(3, 7)),
    "convert": (lambda x, **k: ops.convert(x, source="NHWC", target="NCHW", **k), X),
}
