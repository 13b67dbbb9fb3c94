"""Find, decode, resize and normalize image files."""
