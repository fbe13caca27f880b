"""Presets, generators, kernel text and files."""
