"""`python -m imgconv`."""

from imgconv.cli import entry

entry()
