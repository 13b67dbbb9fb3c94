"""Keras' models, alive or in files, as layers of a chain; nothing here imports Keras.

``graph.py`` orders the layers of a config, ``chain.py`` translates them, ``files.py`` reads files.
"""
