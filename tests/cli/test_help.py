"""Help as people meet it: short first, all on request, and a hint for every mistyped word."""

import json

import click
import pytest

from imgconv.cli import COMMANDS, main
from imgconv.cli.exit_codes import run
from imgconv.cli.help import commands_of


def words_of(text):
    return " ".join(text.split())


@pytest.mark.parametrize("path", [(), ("net",), ("kernels",), ("jobs",)])
def test_a_group_alone_prints_its_help_as_it_is(path, capsys):
    assert run(main, [*path]) == 2
    alone = capsys.readouterr()
    assert run(main, [*path, "--help"]) == 0
    assert (alone.out, alone.err) == ("", capsys.readouterr().out)
    assert alone.err.count("\n") > 8


def test_the_short_help_of_apply_fits_two_screens_and_the_long_one_has_all(capsys):
    assert run(main, ["apply", "--help"]) == 0
    short = capsys.readouterr().out
    assert len(short.splitlines()) <= 70
    assert [line[:-1] for line in short.splitlines() if line[:1] != " " and line.endswith(":")] == [
        "Kernel", "Window", "Afterwards", "Input", "Output", "Pictures", "Batch", "General",
    ]  # fmt: skip
    assert run(main, ["apply", "--help-all"]) == 0
    long = capsys.readouterr().out
    command = main.get_command(click.Context(main), "apply")
    for param in command.params:
        if isinstance(param, click.Option):
            assert any(f"{name} " in long or f"{name}\n" in long for name in param.opts)
            assert param.rare == (f"  {param.opts[-1]} " not in short.replace(", ", "  "))
    assert "{stem}  " in long
    assert "{stem}  " not in short


def test_every_command_tells_its_help_on_lines_that_a_terminal_holds(capsys):
    for path, _ in commands_of(main):
        assert run(main, [*path, "--help"]) == 0
        for line in capsys.readouterr().out.splitlines():
            assert len(line) <= 95, (path, line)  # examples are not broken


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["aply"], "did you mean 'apply'?"),
        (["net", "sumary"], "did you mean 'summary'?"),
        (["completion"], "Choose from: bash, zsh, fish"),
        (["apply", "-k", "sobel", "--grey"], "Did you mean '--gray'?"),
        (["apply", "-k", "sobel", "--overwrit"], "'--overwrite'"),
        (["apply", "-k", "sobel", "--padding", "reflect"], "--padding-mode reflect"),
        (["apply", "-k", "sobel", "--padding-mode", "reflct"], "did you mean 'reflect'?"),
        (["apply", "-k", "sobel", "--alpha", "kep"], "did you mean 'keep'?"),
        (["apply", "-k", "sobel", "--pool", "mx:2"], "did you mean 'max'?"),
        (["apply", "-k", "sobel", "--activation", "rlu"], "did you mean 'relu'?"),
        (["apply", "-k", "sobel", "--colormap", "virids"], "did you mean 'viridis'?"),
        (["apply", "-k", "sobel", "--colormap", "rdbu"], "did you mean 'RdBu'?"),
        (["apply", "-k", "sobel", "--format", "jpgg"], "did you mean 'jpeg'?"),
        (["apply", "-k", "sobell"], "did you mean sobel"),
        (["run", "sobel | relu"], "expected conv sobel"),
        (["run", "conv sobel | rleu"], "did you mean 'relu'?"),
    ],
)
def test_a_mistyped_word_is_answered_with_what_was_meant(
    arguments, hint, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    filters = arguments[0] in ("apply", "run") and len(arguments) > 1
    assert run(main, [*arguments, "sample:chart"] if filters else arguments) == 2
    told = capsys.readouterr()
    assert (told.out, told.err.count("\n")) == ("", 1)
    assert hint in told.err
    assert not list(tmp_path.iterdir())


def test_the_overview_has_each_command_with_its_sentence(capsys):
    assert run(main, ["--help"]) == 0
    overview = words_of(capsys.readouterr().out)
    for name, sentence in COMMANDS.items():
        assert f"{name} {sentence}" in overview


def test_every_operation_that_is_listed_can_be_used(capsys):
    from imgconv.ops.activation import parse_activation
    from imgconv.ops.pool_text import parse_pool
    from imgconv.viz.colormaps import table

    assert run(main, ["ops", "list", "--json"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {row["family"] for row in rows} == {"activation", "pool", "color map"}
    for row in rows:
        given = {key: value or "2" for key, value in row["parameters"].items() if value != "None"}
        text = ",".join(f"{key}={value.lower()}" for key, value in given.items())
        spelled = f"{row['name']}:{text}" if text else row["name"]
        if row["family"] == "pool":
            others = [parse_pool(f"{name}:2") for name in row["also"]]
            assert {pool.kind for pool in (parse_pool(spelled), *others)} == {row["name"]}
        elif row["family"] == "color map":
            assert table(row["name"]).shape == (256, 3)
        elif row["name"] != "softmax":
            assert {parse_activation(name).name for name in (spelled, *row["also"])} == {
                row["name"]
            }
    assert run(main, ["ops", "list"]) == 0
    listed = capsys.readouterr().out
    assert all(f"  {row['name']}" in listed for row in rows)
