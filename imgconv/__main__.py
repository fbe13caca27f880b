"""`python -m imgconv`."""

from imgconv.cli import main

main(prog_name="imgconv")
