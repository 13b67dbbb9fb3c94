"""Benchmarks with their correctness beside them: ``vgg-cuda bench`` and ``vgg-cuda profile``.

``report.py`` is what a run leaves; ``output.py``, ``table.py`` and ``plot.py`` show it, and
``compare.py`` holds two of them against each other.
"""
