"""`imgconv completion`."""

import click

from imgconv.cli.help import Choice, Command


@click.command(cls=Command)
@click.argument("shell", type=Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print a shell completion script for commands, options, kernels, modes and formats.

    \b
    imgconv completion bash > ~/.local/share/bash-completion/completions/imgconv
    imgconv completion zsh > ~/.zfunc/_imgconv
    imgconv completion fish > ~/.config/fish/completions/imgconv.fish
    """
    from click.shell_completion import get_completion_class

    from imgconv.cli import main

    made = get_completion_class(shell)
    assert made is not None
    click.echo(made(main, {}, "imgconv", "_IMGCONV_COMPLETE").source())
