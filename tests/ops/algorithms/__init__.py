"""The ways of one convolution, and the choice between them."""
