"""What kernels are written in: Numba functions over SIMD values."""
