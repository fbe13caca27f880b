"""Readers and writers of the formats that are a module each, and the frames of an opened file."""
