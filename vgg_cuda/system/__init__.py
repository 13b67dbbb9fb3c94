"""Files, caches, child processes, CPU threads and warnings: what the operating system provides."""
