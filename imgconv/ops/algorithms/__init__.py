"""The ways to compute a convolution, and the planner that chooses one."""
