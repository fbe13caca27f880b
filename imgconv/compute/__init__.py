"""Everything that runs as machine code, and the planner that chooses what runs."""
