"""Last activations that no kernel computes: on arrays of every kind, in their own library."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np

from .arrays import is_jax, is_torch

ACTIVATIONS = ("softmax", "sigmoid", "log_softmax")
"""Activations that may follow the last dense layer; kernels compute the softmax."""


def activated(y: Any, activation: str) -> Any:
    """Return the "sigmoid" or "log_softmax" of y [N,classes], in the dtype and kind of y.

    NumPy and CuPy arrays are computed in float32.
    """
    if is_torch(y):
        torch = importlib.import_module("torch")
        return torch.sigmoid(y) if activation == "sigmoid" else torch.log_softmax(y, 1)
    if is_jax(y):
        nn = importlib.import_module("jax.nn")
        return nn.sigmoid(y) if activation == "sigmoid" else nn.log_softmax(y, 1)
    z = y.astype(np.float32)
    if activation == "sigmoid":
        small = np.exp(-np.abs(z))  # never overflows
        z = np.where(z >= 0, np.float32(1), small) / (1 + small)
    else:
        z = z - z.max(axis=1, keepdims=True)
        z = z - np.log(np.exp(z).sum(axis=1, keepdims=True))
    return z.astype(y.dtype)
