"""Adapters to other frameworks: PyTorch and Keras."""
