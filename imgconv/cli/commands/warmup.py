"""`imgconv warmup`."""

import click

from imgconv.cli.help import Command


@click.command(cls=Command)
@click.option("-q", "--quiet", is_flag=True, help="Print errors only.")
def warmup(quiet: bool) -> None:
    """Compile the loops of common commands now, so that the first filter is quick.

    \b
    imgconv warmup

    Several processes compile at once; what is in the store already is only looked at.
    """
    import os

    from imgconv.batch.runner import Progress
    from imgconv.batch.warming import tasks, warm
    from imgconv.errors import OutputError
    from imgconv.jit import cache

    place = cache.folder()
    if place is None or cache.state() != "ready":
        raise OutputError(f"warmup: the store {place or ''} is {cache.state()}")
    os.environ["IMGCONV_QUIET"] = "1"  # for the processes: one line of ours is enough
    progress, made = Progress(len(tasks()), quiet), 0
    for _, compiled in warm():
        made = compiled
        progress.step()
    progress.end()
    if not quiet:
        click.echo(f"{made} loops compiled into {place}", err=True)
