"""``make gpu``: build, test and measure on an NVIDIA GPU, unattended.

The command needs no network, ends at a deadline and writes its results after every step. Without a
GPU it does a dry run; see :mod:`gpu.__main__`.
"""
