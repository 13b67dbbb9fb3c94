"""The command `vgg-cuda`: one file per group of subcommands."""
