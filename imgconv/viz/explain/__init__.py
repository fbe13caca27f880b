"""Convolutions and poolings told step by step: in text, as an animation, as a page."""
