"""Write every command's option list into its page, between its markers.

    python docs/update_options.py

The lists come from the commands themselves, so an option is described in one place: its help.
"""

import re
from pathlib import Path

import click

from imgconv.cli import main
from imgconv.cli.help import commands_of

DOCS = Path(__file__).parent


def leaves(command: click.Command):
    """Yield (path, command) of every command that does work."""
    return (found for found in commands_of(command) if not isinstance(found[1], click.Group))


def option_table(path: tuple[str, ...], command: click.Command) -> str:
    """Markdown of a command's arguments and options."""
    context = click.Context(command, info_name=" ".join(("imgconv", *path)))
    usage = " ".join(command.collect_usage_pieces(context))
    lines = [f"Usage: `imgconv {' '.join(path)} {usage}`", "", "| option | meaning |", "|---|---|"]
    for parameter in command.params:
        record = parameter.get_help_record(context)
        if isinstance(parameter, click.Option) and record and not parameter.hidden:
            names = ", ".join(f"`{name}`" for name in (*parameter.opts, *parameter.secondary_opts))
            value = parameter.make_metavar(context)
            if not parameter.is_flag and not parameter.count:
                names += f" `{value}`".replace("|", "\\|")
            lines.append(f"| {names} | {' '.join(record[1].split()).replace('|', chr(92) + '|')} |")
    return "\n".join(lines)


def update(page: str) -> str:
    """Return the page's text with fresh option lists."""
    for path, command in leaves(main):
        name = " ".join(path)
        pattern = re.compile(rf"(<!-- options: {name} -->\n).*?(<!-- end -->)", re.DOTALL)
        table = option_table(path, command)
        page = pattern.sub(lambda match, t=table: f"{match[1]}\n{t}\n\n{match[2]}", page)
    return page


if __name__ == "__main__":
    for file in DOCS.glob("*.md"):
        file.write_text(update(file.read_text()))
