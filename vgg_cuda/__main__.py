"""Entry point of ``python -m vgg_cuda``, the same command as ``vgg-cuda``."""

from .cli.main import main

main()
