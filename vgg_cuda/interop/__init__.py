"""Other frameworks: one small file each, imported only when asked for."""
