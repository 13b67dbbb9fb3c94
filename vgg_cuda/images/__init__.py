"""Image files: finding, decoding, resampling and normalizing them."""
