"""Run a Keras VGG-16 on vgg_cuda and compare the results.

    python examples/keras_vgg16.py [--reduced] [--device auto]

``--reduced`` builds a network with a sixteenth of the channels. Needs Keras 3 and a Keras backend
(``pip install keras torch``); KERAS_BACKEND selects the backend, here PyTorch by default. The
weights are random, so the classes are meaningless.
"""

from __future__ import annotations

import argparse
import os
import time
from typing import Any

import numpy as np

os.environ.setdefault("KERAS_BACKEND", "torch")
try:
    from keras import Sequential
    from keras.layers import Conv2D, Dense, Flatten, MaxPooling2D
except ImportError as error:
    raise SystemExit(
        f"this example needs Keras 3 and its backend: pip install keras torch ({error})"
    ) from None

import vgg_cuda

BLOCKS = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))  # filters, convolutions


def vgg16(divisor: int) -> Any:
    """Return configuration D of the VGG paper, with its widths divided by ``divisor``."""
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
    """Predict with Keras and with vgg_cuda; print the difference and the times."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--reduced", action="store_true", help="use a sixteenth of the channels")
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
    print(f"classes: Keras {expected.argmax(axis=1)}, vgg_cuda {got.argmax(axis=1)}")
    print(f"log-probabilities: relative L2 error {error:.1e}")
    print(f"first calls: Keras {middle - start:.2f} s, vgg_cuda {end - middle:.2f} s")


if __name__ == "__main__":
    main()
