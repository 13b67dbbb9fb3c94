"""Random weights, scaled so that activations keep their variance through the network."""

from __future__ import annotations

import numpy as np

from ..configs import Config
from .canonical import Tensors, Weights, shapes


def he_weights(config: Config, seed: int) -> Weights:
    """Return normal weights of variance 2 / fan_in and small biases, reproducible from ``seed``.

    The preset is "torchvision" by definition. The biases are not zero, so that a test notices a
    lost bias. He et al., "Delving Deep into Rectifiers", 2015, eq. 10.
    """
    rng = np.random.default_rng(seed)
    tensors: Tensors = {}
    for name, shape in shapes(config):
        values = rng.standard_normal(shape, dtype=np.float32)
        fan_in = int(np.prod(shape[1:]))
        values *= np.float32(0.05 if len(shape) == 1 else np.sqrt(2 / fan_in))
        tensors[name] = values
    source = f"{config.name} drawn from seed {seed}"
    return Weights(config, tensors, source=source, preset_stated=True)
