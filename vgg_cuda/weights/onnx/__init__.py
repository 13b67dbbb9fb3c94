"""Reading and writing of ONNX files; the package ``onnx`` is imported when a file needs it.

``file.py`` reads a file, ``graph.py`` finds the path from input to output, ``layers.py`` turns its
nodes into layers of a chain, ``export.py`` writes a file.
"""
