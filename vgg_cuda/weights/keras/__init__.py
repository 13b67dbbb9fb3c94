"""Keras models, in memory or in files, as layers of a chain; this package does not import Keras.

``graph.py`` orders the layers of a config, ``chain.py`` translates them, ``files.py`` reads files.
"""
