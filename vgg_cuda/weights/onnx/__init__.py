"""ONNX graphs, read and written; the package ``onnx`` is imported when one is.

``file.py`` reads a file, ``graph.py`` finds the path from input to output, ``layers.py`` makes its
nodes layers of a chain, ``export.py`` writes a graph.
"""
