"""Models as people have them, by framework; ``docs/render_models.py`` lists them."""

from __future__ import annotations

from weights.zoo import input_layers, keras_models, modules, onnx_graphs, state_dicts

CASES = [
    *state_dicts.CASES,
    *modules.STATES,
    *modules.CASES,
    *input_layers.MODULES,
    *input_layers.KERAS,
    *keras_models.CASES,
    *input_layers.ONNX,
    *onnx_graphs.CASES,
]
