"""Commands as people type them."""
