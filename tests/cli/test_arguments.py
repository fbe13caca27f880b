"""Numbers in options and texts: what is a pair, and what is refused."""

import click
import pytest

from imgconv.arguments import split_arguments, whole_numbers
from imgconv.cli.commands.net.options import Size
from imgconv.cli.options import Numbers
from tests.running import here


def test_a_value_without_a_name_belongs_to_the_name_before_it():
    assert split_arguments("3, 5, stride = 2,1,Ceil-Mode=1") == (
        ["3", "5"], {"stride": ["2", "1"], "ceil_mode": ["1"]}
    )  # fmt: skip
    assert split_arguments("") == ([], {})


@pytest.mark.parametrize("text", ["3,", ",3", "a=", "a=1,a=2", "a-b=1,a_b=2", "3,,5"])
def test_empty_values_and_names_that_come_twice_are_refused(text):
    with pytest.raises(ValueError, match="expected"):
        split_arguments(text)


@pytest.mark.parametrize(
    ("kind", "text", "expected"),
    [
        (Numbers((1, 2)), "3,5", (3, 5)),
        (Numbers((1, 2)), " 3 ", 3),
        (Numbers((1, 2, 4), 0, ("same",)), "1,0,2,0", (1, 0, 2, 0)),
        (Numbers((1, 2, 4), 0, ("same",)), "same", "same"),
        (Size(), "240,320", (240, 320)),
        (Size(), "240x320", (240, 320)),
        (Size(), "224", (224, 224)),
        (Size(one=True), "224", 224),
        (Size(none=True), "none", "none"),
        (Numbers((2,), 0), "3,0", (3, 0)),
    ],
)
def test_options_take_one_number_or_a_pair(kind, text, expected):
    assert kind.convert(text, None, None) == expected


@pytest.mark.parametrize(
    "text", ["3,5,7", "3_0", "3,", "3x5x7", "²", "3.0", "", "-3", "1e1", "٣,x"]
)
@pytest.mark.parametrize("kind", [Numbers((1, 2)), Size(), Numbers((2,), 0)])
def test_options_refuse_what_is_surplus_or_no_number(kind, text):
    with pytest.raises(click.BadParameter, match="expected"):
        kind.convert(text, None, None)


def test_a_number_beyond_words_is_refused_in_few_characters():
    with pytest.raises(ValueError, match="expected a whole number") as caught:
        whole_numbers("9" * 5000)
    assert len(str(caught.value)) < 100


@pytest.mark.parametrize("option", ["--channels", "--frame", "--stride", "--columns", "--pool"])
def test_a_number_without_end_is_a_wrong_option(option, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    digits = "1" * 5000
    value = f"max:{digits}" if option == "--pool" else digits
    ended = here("apply", "-k", "identity", "sample:chart:16", option, value, "-o", "o.png")
    assert (ended.returncode, ended.stderr.count("\n")) == (2, 1), ended.stderr[:200]
    assert "unexpected" not in ended.stderr
