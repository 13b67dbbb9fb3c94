"""The command ``vgg-cuda``: one file per subcommand or group of subcommands."""
