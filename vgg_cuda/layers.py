"""Names of layers: the canonical ones, and the aliases that Keras and torchvision users know.

Canonical taps, in order: ``conv1_1`` (before the activation), ``relu1_1``, …, ``pool5``,
``avgpool``, ``fc6``, ``relu6``, ``fc7``, ``relu7``, ``fc8``, ``prob`` (softmax); in a network that
pools to maxima, ``maxpool`` instead of ``avgpool``.

- Keras names mean the tensor *after* the activation: ``block1_conv2`` is ``relu1_2``, ``fc1`` is
  ``relu6``, ``predictions`` is ``prob``.
- torchvision indices mean that module's own output, counted for the network's variant:
  ``features.3`` of VGG-16 is ``relu1_2``; ``classifier.0`` is ``fc6``.
- In a network whose batch norms were folded, ``conv1_1`` no longer exists; ``bn1_1`` is the
  output of its batch norm.
"""

from __future__ import annotations

import difflib

from .configs import Config, Conv


class FoldedError(ValueError):
    """A tap before a batch norm that was folded into its convolution."""


def taps(config: Config) -> list[str]:
    """Every canonical tap of ``config``, in the order in which a forward reaches them."""
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
    """Alias -> canonical tap, for every alias that ``config`` has.

    An alias of a tensor before a folded batch norm maps to ``"<bn1_1"``, which
    :func:`resolve_layer` refuses.
    """
    table: dict[str, str] = {}
    index = 0  # of torchvision's `features`
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
    """The canonical tap that ``name`` means in ``config``.

    Raises ``ValueError`` with the closest names for an unknown one, and :class:`FoldedError` for a
    tensor that folding a batch norm removed.
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
