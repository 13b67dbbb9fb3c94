"""The layers of a Keras model in the order of its computation, from its config.

A config is the result of ``get_config``, which Keras' files contain: nested dicts of class names
and arguments. Nothing in it is imported, built or executed. Both dialects are read: Keras 3's, in
which a node is ``{"args": …, "kwargs": …}``, and Keras 2's, in which it is a list.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from ...text import one_line
from ..canonical import prefixed
from ..chain.layers import UnsupportedError
from .nodes import Tensor, inputs_of, operands_of, operation_of, stacked_channels, tensors_of

MODELS = ("Sequential", "Functional", "Model")  # "Model": an older name of Functional
KERAS = ("keras", "tf_keras", "tensorflow")  # modules of Keras' classes
NESTED = (*MODELS, "Pipeline")  # a Pipeline is a layer, a list of augmentations
MAX_NESTED = 16


@dataclass(frozen=True)
class KerasLayer:
    """One call of one layer.

    ``path`` holds the names of the models around it, from the outside in, and its own. ``slots``
    holds their names in Keras' files: class names with a number. ``training`` says that Keras 2
    calls the layer with ``training=True`` even in ``predict``; Keras 3 does not. ``operands`` are
    the arguments of an operation of a Functional model, ``nodes.TENSOR`` for the result of the
    layer before.
    """

    path: tuple[str, ...]
    slots: tuple[str, ...]
    kind: str
    config: Mapping[str, Any]
    training: bool
    operands: tuple[Any, ...] = ()

    @property
    def name(self) -> str:
        """The path for messages: ``vgg16/block1_conv1``."""
        return one_line("/".join(self.path), 120)


def layers_of(model: Mapping[str, Any], source: str) -> list[KerasLayer]:
    """Return the layers of the model with this config; nested models are flattened.

    ``model`` is ``{"class_name": …, "config": …}``. Raises :class:`UnsupportedError` for a model
    other than a chain from one input to one output, and for custom classes.
    """
    with prefixed(source):
        if kind_of(model, "the model") not in MODELS:
            raise UnsupportedError(
                "expected a Sequential or a Functional model, got the custom class "
                f"{one_line(model['class_name'], 80)}"
            )
        return list(_walk(model, (), (), False))


def input_shape_of(model: Mapping[str, Any], layers: Sequence[KerasLayer]) -> list[Any] | None:
    """Return the shape of the model's input with the batch, None for dynamic sizes; or None.

    ``layers`` is the result of :func:`layers_of`.
    """
    for config in (model["config"], *(layer.config for layer in layers[:1])):
        for key in ("batch_shape", "batch_input_shape", "build_input_shape"):
            shape = config.get(key) if isinstance(config, Mapping) else None
            if isinstance(shape, Mapping):  # Keras' spelling of a tuple
                shape = shape.get("items")
            if isinstance(shape, list) and len(shape) == 4:
                return shape
    return None


def kind_of(entry: Mapping[str, Any], name: str) -> str:
    """Return the class of a layer or model. Raises :class:`UnsupportedError` for custom ones."""
    kind, module = entry["class_name"], entry.get("module", "keras")  # older files have none
    registered = entry.get("registered_name")
    if str(module).split(".")[0] not in KERAS or registered not in (None, kind):
        raise UnsupportedError(
            f"{name}: expected a class of Keras, got the custom class "
            f"{one_line(registered or kind, 60)}"
        )
    return str(kind)


def slot(kind: str, used: dict[str, int]) -> str:
    """Return the next name for class ``kind`` in Keras' files: ``conv2d``, then ``conv2d_1``."""
    name = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", re.sub(r"\W+", "", kind))
    name = re.sub("([a-z])([A-Z])", r"\1_\2", name).lower()
    used[name] = used.get(name, -1) + 1
    return f"{name}_{used[name]}" if used[name] else name


def _walk(
    model: Mapping[str, Any], path: tuple[str, ...], slots: tuple[str, ...], training: bool
) -> Iterator[KerasLayer]:
    if len(path) > MAX_NESTED:
        raise UnsupportedError(f"models nested more than {MAX_NESTED} deep")
    config = model["config"]
    entries = config if isinstance(config, list) else config["layers"]
    names = [str(entry["config"].get("name", entry.get("name", ""))) for entry in entries]
    used: dict[str, int] = {}
    saved = [slot(str(entry["class_name"]), used) for entry in entries]
    if model["class_name"] in ("Sequential", "Pipeline"):
        calls = [Call(i) for i in range(len(entries))]
    else:
        calls = _chain(config, entries, names, "".join(f"{name}/" for name in path))
    for i, trains, operands, order in calls:
        here, inner, entry = (*path, names[i]), (*slots, saved[i]), entries[i]
        kind = operation_of(kind_of(entry, one_line("/".join(here), 120)), entry["config"])
        if kind in NESTED:
            yield from _walk(entry, here, inner, trains or training)
        else:
            own = entry["config"] if order is None else {**entry["config"], "order": order}
            yield KerasLayer(here, inner, kind, own, trains or training, operands)


class Call(NamedTuple):
    """A call of the layer at ``position``; a Stack of an image's channels has their ``order``."""

    position: int
    training: bool = False
    operands: tuple[Any, ...] = ()
    order: list[int] | None = None


def _chain(
    config: Mapping[str, Any], entries: list[Any], names: list[str], prefix: str
) -> list[Call]:
    """Return the calls of a Functional model's layers, in order."""
    ends, starts = tensors_of(config["output_layers"]), tensors_of(config["input_layers"])
    for what, found in (("output", ends), ("input", starts)):
        if len(found) != 1:
            listed = one_line(", ".join(prefix + name for name, _ in found) or "none", 120)
            raise UnsupportedError(f"expected a model of one {what}, got {listed}")
    index = {name: i for i, name in enumerate(names)}
    calls: list[Call] = []
    seen: set[Tensor] = set()
    parents = ends
    while parents:
        at = parents[0]
        name = one_line(prefix + at[0], 120)
        if at in seen or at[0] not in index:
            raise UnsupportedError(f"{name}: expected a graph that leads to the input")
        seen.add(at)
        entry = entries[index[at[0]]]
        nodes = entry.get("inbound_nodes") or []
        # Keras 2 counts a nested model's calls from 1.
        node = None if not nodes else nodes[0 if len(nodes) == 1 else at[1]]
        parents, training = ([], False) if node is None else inputs_of(node)
        order: list[int] | None = None
        if entry["class_name"] == "Stack":
            stacked = stacked_channels(parents, entries, index)
            parents, order = (parents, None) if stacked is None else stacked
        calls.append(Call(index[at[0]], training, operands_of(node), order))
        if len(parents) > 1:
            raise UnsupportedError(
                f"{name}: expected a chain of layers, each with one input; this "
                f"{one_line(entry['class_name'], 60)} takes {len(parents)}: "
                + one_line(", ".join(parent for parent, _ in parents), 120)
            )
        if not parents and at[0] != starts[0][0]:
            raise UnsupportedError(f"{name}: expected a graph that leads to the input")
    return calls[::-1]
