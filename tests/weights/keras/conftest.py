"""Keras files for the tests of readers."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
from support.keras_files import FORMS
from support.keras_models import L, conv, gap, keras, randomize, sequential


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Return one small network in every file format."""
    keras.utils.clear_session()  # reset the counters in default names
    layers: list[Any] = []
    for convs in (1, 1, 2, 2, 2):  # as in vgg11
        layers += [*(conv() for _ in range(convs)), L.MaxPooling2D()]
    model = sequential(*layers, *gap())
    randomize(model)
    model.name = "small"
    folder = tmp_path_factory.mktemp("small")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.save(folder / "w.keras")
        model.save(folder / "w.h5")
        model.save_weights(folder / "w.weights.h5")
    return {form: (folder / f"w.{form}").read_bytes() for form in FORMS}
