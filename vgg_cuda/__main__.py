"""``python -m vgg_cuda`` is the command ``vgg-cuda``."""

from .cli.main import main

main()
