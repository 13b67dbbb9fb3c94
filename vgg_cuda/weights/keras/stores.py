"""Lookup of a layer's variables in Keras' files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from ...text import one_line
from ..canonical import Array, WeightsError
from .graph import KerasLayer
from .h5 import H5File

CONTAINERS = ("layers", "_layer_checkpoint_dependencies")  # the latter: Keras 2.13
COUNT = "count"  # the integer variable of a Normalization, which nothing needs
SUFFIXES = ("kernel", "bias", "gamma", "beta", "moving_mean", "moving_variance")


class SavingLib:
    """Variables of ``save_weights`` and ``.keras`` files, at paths like ``layers/conv2d_1/vars/0``.

    Layers are numbered by class, in the model's order; a nested model is a layer with layers.
    """

    def __init__(self, file: H5File) -> None:
        self._file = file

    def __call__(self, layer: KerasLayer, names: Sequence[str]) -> list[Array]:
        """Return the variables of ``layer``, which Keras saves in this order, without names."""
        group = self._file.root
        for slot in layer.slots:
            group = next((g for g in self._inside(group, slot) if g is not None), None)
            if group is None:
                break
        variables = None if group is None else self._file.group(group, "vars")
        where = "layers/" + "/layers/".join(layer.slots) + "/vars"
        if variables is None:
            raise WeightsError(f"{layer.name}: missing: {one_line(where, 160)}")
        name = self._file.text(variables, "name")
        if name is not None and name != layer.path[-1]:
            raise WeightsError(
                f"{layer.name}: expected its variables at {one_line(where, 160)}, found variables "
                f"of {one_line(name, 80)}"
            )
        found = self._file.names(variables)
        check_count(len(found), names, layer)
        kept = [i for i, name in enumerate(names) if name != COUNT]
        return [self._file.array(variables, str(i)) for i in kept]

    def _inside(self, group: Any, slot: str) -> Iterator[Any | None]:
        for container in CONTAINERS:
            layers = self._file.group(group, container)
            yield None if layers is None else self._file.group(layers, slot)


class Legacy:
    """Variables of older ``.h5`` files, in groups like ``model_weights/block1_conv1``."""

    def __init__(self, file: H5File, group: Any) -> None:
        self._file, self._group = file, group

    def __call__(self, layer: KerasLayer, names: Sequence[str]) -> list[Array]:
        """Return the variables of ``layer``, of the outermost or of a nested model."""
        group, listed = self._file.group(self._group, layer.path[0]), None
        if group is not None:
            listed = self._file.texts(group, "weight_names")
        if group is None or listed is None:
            raise WeightsError(f"missing: the weights of {layer.name}")
        if len(layer.path) > 1:  # a nested model lists the variables of all its layers
            parts = by_layer(listed)
            own = [key for key in parts if key.rsplit("/", 1)[-1] == layer.path[-1]]
            if len(own) != 1:
                raise WeightsError(
                    f"{layer.name}: expected the weights of one layer of this name in "
                    f"{one_line(layer.path[0], 80)}, found {len(own)}"
                )
            listed = parts[own[0]]
        check_count(len(listed), names, layer)
        stored = zip(ordered(listed, names), names, strict=True)
        return [self._file.array(group, where) for where, name in stored if name != COUNT]


def by_layer(listed: Sequence[str]) -> dict[str, list[str]]:
    """Return names of variables such as ``conv/kernel:0``, grouped by their layer's path."""
    parts: dict[str, list[str]] = {}
    for name in listed:
        parts.setdefault(name.rpartition("/")[0], []).append(name)
    return parts


def ordered(listed: Sequence[str], names: Sequence[str]) -> list[str]:
    """Return ``listed`` in the order of ``names`` if its suffixes match, else unchanged."""
    ends = {name.rsplit("/", 1)[-1].split(":")[0]: name for name in listed}
    return [ends[name] for name in names] if set(ends) == set(names) else list(listed)


def check_count(count: int, names: Sequence[str], layer: KerasLayer) -> None:
    """Raise :class:`WeightsError` unless there are as many variables as ``names``."""
    if count != len(names):
        raise WeightsError(
            f"{layer.name}: expected {len(names)} variables ({', '.join(names)}), got {count}"
        )
