"""Convolution, pooling and what goes with them."""
