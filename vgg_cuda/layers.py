"""Names of layers: the canonical names, and the aliases of Keras and torchvision.

Canonical taps, in order: ``conv1_1`` (before the activation), ``relu1_1``, …, ``pool5``,
``avgpool`` (or ``maxpool``), ``fc6``, ``relu6``, ``fc7``, ``relu7``, ``fc8``, ``prob`` (softmax).

- Keras names stand for the tensor *after* the activation: ``block1_conv2`` is ``relu1_2``,
  ``fc1`` is ``relu6``, ``predictions`` is ``prob``.
- torchvision names stand for the output of the module with that index in the same network:
  ``features.3`` of VGG-16 is ``relu1_2``; ``classifier.0`` is ``fc6``.
- A scale and shift per channel behind a ReLU or pool, such as a batch norm that no layer can take
  over, is ``affine1_2`` after ``relu1_2``, and ``affine1`` after ``pool1``.
- If batch norms were folded into the convolutions, ``conv1_1`` no longer exists; ``bn1_1`` is the
  output of the batch norm.
"""

from __future__ import annotations

import difflib

from .configs import Affine, Config, Conv


class FoldedError(ValueError):
    """Raised for a tensor before a batch norm that was folded into its convolution."""


def taps(config: Config) -> list[str]:
    """Return every canonical tap of ``config``, in the order of computation."""
    names: list[str] = []
    for layer in config.features:
        names.append(layer.name)
        if isinstance(layer, Conv) and layer.relu:
            names.append(layer.relu_name)
    if config.reduces != "none":
        names.append(f"{config.reduces}pool")
    for dense in config.dense:
        names += [dense.name, dense.relu_name] if dense.relu else [dense.name]
    if config.num_classes is not None:
        names.append("prob")
    return names


def aliases(config: Config) -> dict[str, str]:
    """Return the canonical tap of every alias in ``config``.

    An alias of a tensor before a folded batch norm maps to ``"<bn1_1"``, which
    :func:`resolve_layer` rejects.
    """
    table: dict[str, str] = {}
    index = 0  # in torchvision's `features`
    for layer in config.features:
        if isinstance(layer, Conv):
            block, number = layer.name.removeprefix("conv").split("_")
            after = layer.relu_name if layer.relu else layer.name
            table[f"block{block}_conv{number}"] = after
            if config.batch_norm:
                bn = f"bn{block}_{number}"
                table[layer.name] = table[f"features.{index}"] = "<" + bn
                table[bn] = table[f"features.{index + 1}"] = layer.name
                index += 1
            else:
                table[f"features.{index}"] = layer.name
            if layer.relu:
                table[f"features.{index + 1}"] = layer.relu_name
            index += 1 + layer.relu
        elif isinstance(layer, Affine):
            table[f"features.{index}"] = layer.name
            index += 1
        else:
            table[f"block{layer.name.removeprefix('pool')}_pool"] = layer.name
            table[f"features.{index}"] = layer.name
            index += 1
    for i, dense in enumerate(config.dense):
        module = 3 * i  # torchvision: Linear, ReLU, Dropout
        table[f"classifier.{module}"] = dense.name
        if dense.relu:
            table[f"fc{i + 1}"] = dense.relu_name
            table[f"classifier.{module + 1}"] = table[f"classifier.{module + 2}"] = dense.relu_name
    if config.num_classes is not None:
        table["predictions"] = "prob"
    return table


def resolve_layer(config: Config, name: str) -> str:
    """Return the canonical tap that ``name`` stands for in ``config``.

    Raises ``ValueError`` with the closest names for an unknown name, and :class:`FoldedError` for
    a tensor removed by folding a batch norm.
    """
    if not isinstance(name, str):
        raise TypeError(f"layer: expected a name such as 'relu1_2', got {name!r}")
    table = aliases(config)
    canonical = table.get(name, name)
    if canonical.startswith("<"):
        bn = canonical[1:]
        raise FoldedError(
            f"layer {name!r} no longer exists: its batch norm was folded into the convolution; "
            f"use {bn!r} (after the batch norm) or {'relu' + bn[2:]!r} (after the ReLU)"
        )
    known = taps(config)
    if canonical in known:
        return canonical
    names = [n for n in (*known, *table) if not table.get(n, "").startswith("<")]
    close = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    hint = f"; did you mean {', '.join(close)}?" if close else ""
    raise ValueError(
        f"{config.name} has no layer {name!r}{hint} (its layers run from {names[0]} to {known[-1]})"
    )
