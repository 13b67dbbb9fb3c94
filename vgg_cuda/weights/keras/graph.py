"""The layers of a Keras model in the order of its computation, from its config.

A config is the result of ``get_config``, which Keras' files contain: nested dicts of class names
and arguments. Nothing in it is imported, built or executed. Both dialects are read: Keras 3's, in
which a node is ``{"args": …, "kwargs": …}``, and Keras 2's, in which it is a list.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ...text import one_line
from ..chain.layers import UnsupportedError

MODELS = ("Sequential", "Functional", "Model")  # "Model": an older name of Functional
KERAS = ("keras", "tf_keras", "tensorflow")  # modules of Keras' classes
MAX_NESTED = 16

Tensor = tuple[str, int]  # the layer that computed it, and the number of the call


@dataclass(frozen=True)
class KerasLayer:
    """One call of one layer.

    ``path`` holds the names of the models around it, from the outside in, and its own. ``slots``
    holds their names in Keras' files: class names with a number. ``training`` says that the model
    calls the layer with ``training=True`` even in inference.
    """

    path: tuple[str, ...]
    slots: tuple[str, ...]
    kind: str
    config: Mapping[str, Any]
    training: bool

    @property
    def name(self) -> str:
        """The path for messages: ``vgg16/block1_conv1``."""
        return one_line("/".join(self.path), 120)


def layers_of(model: Mapping[str, Any], source: str) -> list[KerasLayer]:
    """Return the layers of the model with this config; nested models are flattened.

    ``model`` is ``{"class_name": …, "config": …}``. Raises :class:`UnsupportedError` for a model
    other than a chain from one input to one output, and for custom classes.
    """
    if kind_of(model, "the model", source) not in MODELS:
        raise UnsupportedError(
            f"{source}: expected a Sequential or a Functional model, got "
            f"the custom class {one_line(model['class_name'], 80)}"
        )
    return list(_walk(model, (), (), False, source))


def input_shape_of(model: Mapping[str, Any]) -> list[Any] | None:
    """Return the shape of the model's input with the batch, None for dynamic sizes; or None."""
    config = model["config"]
    layers = config if isinstance(config, list) else config["layers"]
    found = _stated_shape(config)
    if found is None and model["class_name"] != "Sequential" and config.get("input_layers"):
        name = _tensors(config["input_layers"])[0][0]
        layers = [layer for layer in layers if layer.get("name", None) == name] or layers
    if found is None and layers:
        first = layers[0]
        found = _stated_shape(first["config"])
        if found is None and first["class_name"] in MODELS:
            return input_shape_of(first)
    return found


def kind_of(entry: Mapping[str, Any], name: str, source: str) -> str:
    """Return the class of a layer or model. Raises :class:`UnsupportedError` for custom ones."""
    kind, module = entry["class_name"], entry.get("module", "keras")  # older files have none
    registered = entry.get("registered_name")
    if str(module).split(".")[0] not in KERAS or registered not in (None, kind):
        raise UnsupportedError(
            f"{source}: {name}: expected a class of Keras, got the custom class "
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
    model: Mapping[str, Any],
    path: tuple[str, ...],
    slots: tuple[str, ...],
    training: bool,
    source: str,
) -> Iterator[KerasLayer]:
    if len(path) > MAX_NESTED:
        raise UnsupportedError(f"{source}: models nested more than {MAX_NESTED} deep")
    config = model["config"]
    entries = config if isinstance(config, list) else config["layers"]
    names = [str(entry["config"].get("name", entry.get("name", ""))) for entry in entries]
    used: dict[str, int] = {}
    saved = [slot(str(entry["class_name"]), used) for entry in entries]
    if model["class_name"] == "Sequential":
        calls = [(i, False) for i in range(len(entries))]
    else:
        calls = list(_chain(config, entries, names, "/".join(path), source))
    for i, trains in calls:
        here, entry = (*path, names[i]), entries[i]
        kind = kind_of(entry, one_line("/".join(here), 120), source)
        inside = trains or training
        if kind in MODELS:
            yield from _walk(entry, here, (*slots, saved[i]), inside, source)
        else:
            yield KerasLayer(here, (*slots, saved[i]), kind, entry["config"], inside)


def _chain(
    config: Mapping[str, Any], entries: list[Any], names: list[str], where: str, source: str
) -> Iterator[tuple[int, bool]]:
    """Yield the indices of the layers that a Functional model calls, and ``training``."""
    prefix = f"{where}/" if where else ""
    ends = _tensors(config["output_layers"])
    starts = _tensors(config["input_layers"])
    for what, found in (("output", ends), ("input", starts)):
        if len(found) != 1:
            listed = one_line(", ".join(prefix + name for name, _ in found) or "none", 120)
            raise UnsupportedError(f"{source}: expected a model of one {what}, got {listed}")
    index = {name: i for i, name in enumerate(names)}
    calls: list[tuple[int, bool]] = []
    seen: set[Tensor] = set()
    at: Tensor | None = ends[0]
    while at is not None:
        name = one_line(prefix + at[0], 120)
        if at in seen or at[0] not in index:
            raise UnsupportedError(f"{source}: {name}: expected a graph that leads to the input")
        seen.add(at)
        entry = entries[index[at[0]]]
        nodes = entry.get("inbound_nodes") or []
        parents, training = _inputs(nodes[_node(at[1], nodes)]) if nodes else ([], False)
        calls.append((index[at[0]], training))
        if len(parents) > 1:
            raise UnsupportedError(
                f"{source}: {name}: expected a chain of layers, each with one input; this "
                f"{one_line(entry['class_name'], 60)} takes {len(parents)}: "
                + one_line(", ".join(parent for parent, _ in parents), 120)
            )
        if not parents and at[0] != starts[0][0]:
            raise UnsupportedError(f"{source}: {name}: expected a graph that leads to the input")
        at = parents[0] if parents else None
    return reversed(calls)


def _node(index: int, nodes: list[Any]) -> int:
    """Return the position of call ``index``: Keras 2 counts a nested model's calls from 1."""
    return 0 if len(nodes) == 1 else index


def _inputs(node: Any) -> tuple[list[Tensor], bool]:
    """Return the tensors that a call takes, and whether it has ``training=True``."""
    if isinstance(node, Mapping):  # Keras 3
        found = [*_kept_tensors(node.get("args")), *_kept_tensors(node.get("kwargs"))]
        return found, (node.get("kwargs") or {}).get("training") is True
    node = [node] if node and isinstance(node[0], str) else node
    trains = any(len(call) > 3 and (call[3] or {}).get("training") is True for call in node)
    nested = [tensor for call in node if len(call) > 3 for tensor in _keywords(call[3])]
    return [*_tensors(node), *nested], trains


def _kept_tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Mapping):
        if value.get("class_name") == "__keras_tensor__":
            name, node, _ = value["config"]["keras_history"]
            yield str(name), int(node)
            return
        value = list(value.values())
    if isinstance(value, list):
        for one in value:
            yield from _kept_tensors(one)


def _keywords(arguments: Any) -> Iterator[Tensor]:
    """Yield the tensors among Keras 2's keyword arguments, each ``[name, node, index]``."""
    for value in (arguments or {}).values():
        if isinstance(value, list) and len(value) == 3 and isinstance(value[0], str):
            yield str(value[0]), int(value[1])


def _tensors(value: Any) -> list[Tensor]:
    """Return the tensors of ``["fc", 0, 0]``, a list of such lists, or a dict of them."""
    if isinstance(value, Mapping):
        value = list(value.values())
    if value and isinstance(value[0], str):
        value = [value]
    return [(str(one[0]), int(one[1])) for one in value]


def _stated_shape(config: Any) -> list[Any] | None:
    if not isinstance(config, Mapping):
        return None
    for key in ("batch_shape", "batch_input_shape", "build_input_shape"):
        shape = config.get(key)
        if isinstance(shape, Mapping):  # Keras' spelling of a tuple
            shape = shape.get("items")
        if isinstance(shape, list) and len(shape) == 4:
            return shape
    return None
