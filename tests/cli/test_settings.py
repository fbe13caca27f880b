"""One table of options: a field of it is an option of the command line, of records and ledgers."""

import json
import pickle
from typing import Literal

import click
import pytest
from click.shell_completion import ShellComplete
from click.testing import CliRunner

from imgconv.batch.ledger import digest_of
from imgconv.cli.options import settings_of
from imgconv.pipeline import settings
from imgconv.pipeline.records.record import Named, Record, option_words, options_of, parse
from imgconv.pipeline.settings import ReadSettings, Settings, WriteSettings
from imgconv.pipeline.settings.table import Range, local, option


class Read(ReadSettings):
    """The table with two options more."""

    tint: Literal["none", "sepia", "blue"] = option("A hue over all.", default="none", shown=True)
    grain: int | None = option("Noise, in percent.", default=None, kind=Range(0, 100))
    hurry: bool = local("Do it faster.", default=False)


@pytest.fixture
def command(monkeypatch):
    """A command with the options of `run`, which keeps what it was given in `got`."""
    groups = (Read() if type(group) is ReadSettings else group for group in Settings())
    monkeypatch.setattr(Settings.__new__, "__defaults__", tuple(groups))
    tables = settings.COMMANDS["run"]
    chosen = tuple(Read if table is ReadSettings else table for table in tables)
    monkeypatch.setitem(settings.COMMANDS, "run", chosen)

    @click.command()
    @settings_of("run")
    def run(settings):
        run.got = settings

    return run


def invoked(command, *words):
    result = CliRunner().invoke(command, words)
    assert result.exit_code == 0, result.output
    return command.got


def test_a_field_is_an_option_with_its_help_and_type(command):
    got = invoked(command, "--tint", "sepia", "--grain", "7", "--gray").read
    assert (got.tint, got.grain, got.hurry, got.gray, got.alpha) == (
        "sepia", 7, False, True, "keep"
    )  # fmt: skip
    page = CliRunner().invoke(command, ["--help"]).output
    assert "--tint [none|sepia|blue]" in page
    assert "[default: none]" in page
    assert "--grain INTEGER RANGE" in page
    refused = CliRunner().invoke(command, ["--grain", "101"])
    assert refused.exit_code == 2
    assert "101 is not in the range 0<=x<=100" in refused.output


def test_a_field_is_completed(command):
    completed = ShellComplete(command, {}, "run", "_RUN")
    options = {item.value for item in completed.get_completions([], "--ti")}
    assert options == {"--tile", "--tint"}
    assert [item.value for item in completed.get_completions(["--tint"], "b")] == ["blue"]


def test_a_field_is_recorded_and_comes_back(command):
    got = invoked(command, "--tint", "blue", "--grain", "3", "--hurry", "--linear")
    options = options_of("run", got.values() | {"format": "png"})
    assert options == {"linear": True, "tint": "blue", "grain": "3", "format": "png"}
    record = Record("run", options, Named("in.png", "0" * 64), chain="relu")
    read = parse(json.dumps(record.as_dict()), "out.png")
    again = invoked(command, *option_words(read.options))
    assert (again.read.tint, again.read.grain, again.read.linear) == ("blue", 3, True)
    assert not again.read.hurry


def test_a_default_is_not_recorded(command):
    assert options_of("run", invoked(command).values()) == {}


def test_a_field_decides_what_a_ledger_takes_for_the_same_work(command):
    plain, tinted, hurried = (invoked(command, *words).read for words in
                              ([], ["--tint", "blue"], ["--hurry"]))  # fmt: skip
    assert digest_of(plain) != digest_of(tinted)
    assert digest_of(plain) == digest_of(hurried)


def test_settings_are_frozen_and_travel():
    read = ReadSettings(gray=True)
    with pytest.raises(AttributeError, match=r"ReadSettings\.gray cannot be set"):
        read.gray = False
    with pytest.raises(TypeError, match="no option grey"):
        ReadSettings(grey=True)
    changed = read.changed(level=2)
    assert (changed.gray, changed.level, read.level) == (True, 2, 0)
    assert pickle.loads(pickle.dumps(changed)).deciding() == changed.deciding()


def test_what_replaces():
    assert not WriteSettings(quality=3).replaces
    assert WriteSettings(skip_existing=True).replaces


def test_no_two_options_have_one_name():
    names = [name for table in settings.COMMANDS["apply"] for name in table.ROWS]
    assert len(names) == len(set(names))
    assert set(names) == set(Settings().values())
