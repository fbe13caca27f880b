"""`imgconv warmup`."""

import click

from imgconv.cli.help import Command


@click.command(cls=Command)
@click.option("-q", "--quiet", is_flag=True, help="Only errors.")
def warmup(quiet: bool) -> None:
    """Compile the loops of the common commands now, so that the first filter is quick.

    \b
    imgconv warmup

    Several processes compile at once; what is in the store already is only looked at.
    """
    import os
    import sys

    from imgconv.batch.warming import warm
    from imgconv.console import clear_status, show_status
    from imgconv.errors import OutputError
    from imgconv.jit import cache

    place = cache.folder()
    if place is None or cache.state() != "ready":
        raise OutputError(f"warmup: the store {place or ''} is {cache.state()}")
    os.environ["IMGCONV_QUIET"] = "1"  # for the processes: one line of ours is enough
    shown = not quiet and sys.stderr is not None and sys.stderr.isatty()
    made = 0
    for done, made in warm():
        if shown:
            show_status(f"{done} tasks, {made} loops compiled")
    clear_status()
    if not quiet:
        click.echo(f"{made} loops compiled into {place}", err=True)
