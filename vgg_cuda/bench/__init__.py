"""Benchmarks of networks and kernels whose results are checked: ``vgg-cuda bench``, ``profile``.

A run goes through these modules: ``options.py`` (what to measure), ``suite.py`` (the run),
``workers.py`` and ``session.py`` (one process per program), ``measure.py`` (turns and samples),
``truth.py`` (correctness), ``results.py`` (statistics), ``report.py`` (the file).
"""
