"""``python -m vgg_cuda`` is the command ``vgg-cuda``."""

from .cli import main

main()
