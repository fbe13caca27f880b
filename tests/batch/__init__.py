"""Many files, large files, clusters."""
