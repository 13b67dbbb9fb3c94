"""VGG-16 as a Keras model, and the same model on this package's kernels: how well they agree.

``python examples/keras_vgg16.py`` builds the network at 224x224; ``--reduced`` one with a sixteenth
of its channels. Needs Keras 3 with a backend (``pip install keras torch``; KERAS_BACKEND names it,
torch by default here). The weights are random, so the classes mean nothing.
"""

from __future__ import annotations

import argparse
import os
import time
from typing import Any

import numpy as np

os.environ.setdefault("KERAS_BACKEND", "torch")
from keras import Sequential
from keras.layers import Conv2D, Dense, Flatten, MaxPooling2D

import vgg_cuda

BLOCKS = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))  # filters, convolutions


def vgg16(divisor: int) -> Any:
    """Configuration D of the paper, its widths divided."""
    layers: list[Any] = []
    for filters, count in BLOCKS:
        layers += [
            Conv2D(
                filters=filters // divisor,
                kernel_size=(3, 3),
                padding="same",
                activation="relu",
                kernel_initializer="he_normal",
            )
            for _ in range(count)
        ]
        layers.append(MaxPooling2D((2, 2)))
    hidden: dict[str, Any] = {"activation": "relu", "kernel_initializer": "he_normal"}
    layers += [Flatten(), Dense(4096 // divisor, **hidden), Dense(4096 // divisor, **hidden)]
    return Sequential([*layers, Dense(1000, activation="softmax")])


def main() -> None:
    """Builds, converts, predicts twice and prints how far apart the results are."""
    parser = argparse.ArgumentParser(description="a Keras VGG-16 on vgg_cuda")
    parser.add_argument("--reduced", action="store_true", help="a sixteenth of the channels")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda")
    options = parser.parse_args()

    keras_model = vgg16(16 if options.reduced else 1)
    keras_model.build((None, 224, 224, 3))
    model = vgg_cuda.from_keras(keras_model, device=options.device)
    print(model)

    x = np.random.default_rng(0).random((2, 224, 224, 3), dtype=np.float32)
    start = time.perf_counter()
    expected = np.asarray(keras_model.predict(x, verbose=0))
    middle = time.perf_counter()
    got = np.asarray(model(x))
    end = time.perf_counter()
    error = np.linalg.norm(np.log(got) - np.log(expected)) / np.linalg.norm(np.log(expected))
    print(f"classes: {expected.argmax(axis=1)} by Keras, {got.argmax(axis=1)} here")
    print(f"log-probabilities: relative L2 error {error:.1e}")
    print(f"first calls: Keras {middle - start:.2f} s, vgg_cuda {end - middle:.2f} s")


if __name__ == "__main__":
    main()
