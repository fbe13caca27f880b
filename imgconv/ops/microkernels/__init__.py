"""Innermost loops over registers."""
