"""Write the manual pages, one per command, from the commands themselves.

    python docs/make_man.py

The pages lie in docs/man/; a wheel installs them, so that `man imgconv-apply` shows them.
"""

import re
from pathlib import Path

import click

from imgconv import __version__
from imgconv.cli import main
from imgconv.cli.help import commands_of

MAN = Path(__file__).parent / "man"


def roff(text: str) -> str:
    """Text in which nothing is taken for a request of the formatter."""
    text = text.replace("\\", "\\e").replace("-", "\\-")
    text = re.sub(r"^([.'])", r"\\&\1", text, flags=re.MULTILINE)
    return re.sub(r"[^\x00-\x7f]", lambda match: rf"\[u{ord(match[0]):04X}]", text)


def description(help: str) -> list[str]:
    """A command's help: paragraphs are filled, those that \\b marks stand as they are."""
    lines: list[str] = []
    text = "\n".join(line.strip() for line in help.replace("\f", "").splitlines())
    for paragraph in re.split(r"\n{2,}", text.strip()):
        if paragraph.startswith("\b"):
            lines += [".PP", ".nf", roff(paragraph.removeprefix("\b").strip("\n")), ".fi"]
        else:
            lines += [".PP", roff(paragraph)]
    return lines


def page(path: tuple[str, ...], command: click.Command) -> str:
    """The manual page of a command."""
    name = "-".join(path)
    context = click.Context(command, info_name=" ".join(path))
    first, _, rest = (command.help or "").partition("\n\n")
    short = " ".join(first.split()).partition(". ")[0].rstrip(".")
    usage = " ".join(command.collect_usage_pieces(context))
    lines = [
        f'.TH "{name.upper()}" "1" "" "imgconv {__version__}" "imgconv"',
        ".SH NAME", f"{roff(name)} \\- {roff(short)}",
        ".SH SYNOPSIS", f".B {roff(' '.join(path))}", roff(usage),
        ".SH DESCRIPTION", *description(rest or first),
    ]  # fmt: skip
    heading = "OPTIONS"
    begun = ""
    for parameter in command.get_params(context):
        heading = (getattr(parameter, "heading", None) or heading).upper()
        record = parameter.get_help_record(context)
        if "--help" in parameter.opts:  # Click keeps the names of the first context that asked
            record = ("-h, --help", "Show this message and exit.")
        if isinstance(parameter, click.Option) and record and not parameter.hidden:
            if heading != begun:
                lines.append(f".SH {heading}")
                begun = heading
            lines += [".TP", f".B {roff(record[0])}", roff(" ".join(record[1].split()))]
    if isinstance(command, click.Group):
        inner = [
            f".BR {roff('-'.join((*path, name)))} (1)" for name in command.list_commands(context)
        ]
        lines += [".SH COMMANDS", *(line for text in inner for line in (text, ".br"))]
    elif len(path) > 1:
        lines += [".SH SEE ALSO", f".BR {roff('-'.join(path[:-1]))} (1)"]
    return "\n".join(lines) + "\n"


def pages() -> dict[str, str]:
    """Every page by the name of its file."""
    return {
        f"{'-'.join(path)}.1": page(path, command)
        for path, command in commands_of(main, ("imgconv",))
    }


if __name__ == "__main__":
    MAN.mkdir(exist_ok=True)
    made = pages()
    for old in MAN.glob("*.1"):
        if old.name not in made:
            old.unlink()
    for name, text in made.items():
        (MAN / name).write_text(text)
