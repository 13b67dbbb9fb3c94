"""``make gpu``: one unattended command that builds, tests and measures on an NVIDIA GPU.

It needs no network, keeps to a deadline and writes what it has after every step. Where there is no
GPU it goes the same way as far as it can: see :mod:`gpu.__main__`.
"""
