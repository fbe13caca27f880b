"""What compiles, keeps and runs loops."""
