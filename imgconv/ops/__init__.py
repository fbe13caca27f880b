"""What users call: convolution, filters, pooling, activations, normalization, linear layers."""
