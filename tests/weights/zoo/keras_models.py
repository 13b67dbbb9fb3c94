"""Keras models as tutorials write them: augmentation, noise, heads, batch norms."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from support.keras_models import L, chained, conv, functional, keras, predict, randomize, sequential
from weights.zoo.case import Case, Example


def saved(
    make: Callable[[], Any], *, first: bool = False, refused: bool = False, negative: bool = False
) -> Any:
    """Return a maker of a case: the model with random weights, saved as .keras.

    ``first``: the model takes channels first. Refused models need not compute anything.
    ``negative``: some scales of batch norms are negative.
    """

    def of(folder: Path) -> Example:
        model = make()
        randomize(model)
        for variable in model.weights if negative else ():
            if variable.name == "gamma":
                variable.assign(variable * np.where(np.arange(variable.shape[0]) % 3, 1, -1))
        model.save(folder / "w.keras")
        if refused:
            return Example(folder / "w.keras", np.zeros(0), np.zeros(0))
        x = np.random.default_rng(1).standard_normal((2, *model.inputs[0].shape[1:]), np.float32)
        y = predict(model, x)
        return Example(folder / "w.keras", x.transpose(0, 2, 3, 1) if first else x, y)

    return of


def blocks(*between: Any) -> list[Any]:
    """Return two small blocks, with ``between`` after the first."""
    return [conv(), L.MaxPooling2D(), *between, conv(), L.MaxPooling2D()]


def head(*layers: Any) -> list[Any]:
    return [L.Flatten(), *layers, L.Dense(5)]


def random_layers() -> list[Any]:
    """Return every augmentation layer of Keras that is called Random…, except RandomCrop."""
    found = []
    for name, kind in sorted(vars(L).items()):
        if name.startswith("Random") and inspect.isclass(kind) and name != "RandomCrop":
            required = [
                parameter
                for parameter in inspect.signature(kind).parameters.values()
                if parameter.default is parameter.empty
                and parameter.kind is parameter.POSITIONAL_OR_KEYWORD
            ]
            found.append(kind(*([4] if "Poster" in name else [0.3] * len(required))))
    return found


def trained(layer: Any, **arguments: Any) -> Callable[[Any], Any]:
    """Return a functional model's chain that calls ``layer`` with training=True."""
    return lambda x: chained([*blocks(), *head()])(layer(x, training=True, **arguments))


def norm_trained(x: Any) -> Any:
    y = L.BatchNormalization()(conv(activation=None)(x), training=True)
    return chained([L.ReLU(), L.MaxPooling2D(), *head()])(y)


def case(name: str, what: str, make: Any, why: str = "", **options: Any) -> Case:
    return Case("Keras", name, what, options.pop("verdict", "accepted"), make, why, **options)


def refusal(name: str, what: str, make: Any, why: str, says: str) -> Case:
    return Case("Keras", name, what, "refused", saved(make, refused=True), why, says)


NORM = L.BatchNormalization
IDENTITY = "without effect in `predict`"
CASES = [
    case("augmentation", "every Random… layer of augmentation",
         saved(lambda: sequential(*random_layers(), *blocks(), *head())), IDENTITY),
    case("augmentation-others", "AugMix, CutMix, MixUp, RandAugment", saved(lambda: sequential(
        L.AugMix(), L.CutMix(), L.MixUp(), L.RandAugment(), *blocks(), *head())), IDENTITY),
    case("pipeline", "a Pipeline of augmentation layers", saved(lambda: sequential(
        L.Pipeline([L.RandomFlip(), L.RandomHue(0.2)]), *blocks(), *head())), IDENTITY),
    case("random-crop", "RandomCrop to the size of the images", saved(lambda: sequential(
        L.RandomCrop(32, 32), *blocks(), *head())), IDENTITY),
    case("noise", "dropout and noise of every kind", saved(lambda: sequential(
        L.GaussianNoise(0.3), *blocks(L.SpatialDropout2D(0.2), L.GaussianDropout(0.3)),
        *head(L.AlphaDropout(0.1), L.Dense(7, "relu"), L.Dropout(0.5),
              L.ActivityRegularization(0.1)))), IDENTITY),
    case("augmentation-training", "an augmentation model called with training=True",
         saved(lambda: functional(trained(keras.Sequential([L.RandomFlip(), L.Dropout(0.2)])))),
         "`predict` overrides it"),
    case("dropout-training", "a dropout called with training=True",
         saved(lambda: functional(trained(L.Dropout(0.5)))), "`predict` overrides it"),
    case("norm-training", "a batch norm called with training=True",
         saved(lambda: functional(norm_trained)), "`predict` uses its moving statistics",
         verdict="folded"),
    case("norm-before-average", "ReLU, batch norm, global average, dense layer",
         saved(lambda: sequential(*blocks(), NORM(), L.GlobalAveragePooling2D(), L.Dense(5))),
         "into the dense layer", verdict="folded"),
    case("norm-before-flatten", "ReLU, batch norm, Flatten, dense layer",
         saved(lambda: sequential(*blocks(), NORM(), *head())), "into the dense layer",
         verdict="folded"),
    case("norm-before-pool", "ReLU, batch norm with scales >= 0, max-pool, Flatten, dense layer",
         saved(lambda: sequential(conv(), NORM(), L.MaxPooling2D(), *head())),
         "into the dense layer: a scale >= 0 commutes with the maximum", verdict="folded"),
    case("norm-before-conv", "ReLU, batch norm, convolution",
         saved(lambda: sequential(conv(), NORM(), conv(), *head())),
         "a separate layer: zeros of the padding have no shift"),
    case("norm-tutorial", "blocks of a convolution with ReLU, batch norm, max-pool and dropout",
         saved(lambda: sequential(
             conv(), NORM(), conv(), NORM(), L.MaxPooling2D(), L.Dropout(0.2), conv(), NORM(),
             L.MaxPooling2D(), *head(L.Dense(7, "relu"), NORM())), negative=True),
         "a separate layer before a convolution, and before a max-pool if a scale is negative"),
    case("norm-after-pool", "max-pool, batch norm, convolution, batch norm, global maximum",
         saved(lambda: sequential(
             *blocks(NORM()), NORM(), L.GlobalMaxPooling2D(), L.Dense(5)), negative=True),
         "a separate layer before a maximum with negative scales"),
    case("norm-of-features", "a batch norm of all features behind Flatten",
         saved(lambda: sequential(*blocks(), *head(NORM()))), verdict="folded"),
    case("norm-in-head", "dense layer, ReLU, batch norm, dense layer",
         saved(lambda: sequential(*blocks(), *head(L.Dense(7, "relu"), NORM(), L.Dropout(0.3)))),
         "into the dense layer behind it", verdict="folded"),
    case("norm-of-channels-first", "a batch norm before Flatten of channels first",
         saved(lambda: sequential(
             conv(data_format="channels_first"), NORM(axis=1),
             L.Flatten(), L.Dense(3), shape=(3, 6, 4)), first=True), verdict="folded"),
    case("sigmoid", "one class with a sigmoid", saved(lambda: sequential(
        *blocks(), L.Flatten(), L.Dense(1, "sigmoid")))),
    case("multi-label", "several classes with a sigmoid each", saved(lambda: sequential(
        *blocks(), *head(), L.Activation("sigmoid")))),
    case("log-softmax", "a log-softmax", saved(lambda: sequential(
        *blocks(), L.Flatten(), L.Dense(4, "log_softmax")))),
    case("linear", "no activation", saved(lambda: sequential(
        *blocks(), *head(), L.Activation("linear"))), "a call returns logits"),
    refusal("sigmoid-inside", "a sigmoid before another layer", lambda: sequential(
        *blocks(), L.Flatten(), L.Dense(4, "sigmoid"), L.Dense(2, name="last")),
        "no kernel computes it", "last: expected nothing after a sigmoid"),
    refusal("auto-contrast", "AutoContrast, Equalization", lambda: sequential(
        L.AutoContrast(), *blocks(), *head()), "they act in `predict`, too",
        "expected a layer of a VGG .*got AutoContrast"),
    refusal("random-crop-smaller", "RandomCrop to another size", lambda: sequential(
        L.RandomCrop(16, 16, name="crop"), *blocks(), L.GlobalMaxPooling2D()),
        "`predict` may resize",
        "crop: expected a crop as large as the image, 32 x 32, got 16 x 16"),
]  # fmt: skip
