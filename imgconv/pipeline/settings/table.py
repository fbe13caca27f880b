"""What a table of options is: fields that say all there is to say of an option."""

from collections.abc import Iterable
from typing import Any, ClassVar, NamedTuple, Self, TypeVar, dataclass_transform

_Options = TypeVar("_Options", bound="Table | tuple[Table, ...]")


class Range(NamedTuple):
    """Whole numbers from `least` to `most`, or without end."""

    least: int
    most: int | None = None


class Row(NamedTuple):
    """An option: its default, and what is to be said of it beside its field's name and type.

    kind: how its text is read where the field's type does not say it, a range or a name that the
    command line knows. names: on the command line, where not the field's. shown: the help tells
    the default. recorded: it is part of the record in an output. decides: the bytes of an output
    depend on it. rare: only the long help has it. heading: begins a group of the help.
    """

    help: str
    default: object
    kind: str | Range | None
    metavar: str | None
    names: tuple[str, ...]
    shown: bool
    recorded: bool
    decides: bool
    rare: bool
    heading: str | None

    @property
    def is_flag(self) -> bool:
        """Whether the option takes no text: `--flip`, `--invert/--no-invert`."""
        return self.default is False or any("/" in name for name in self.names)


def option(
    help: str, *, default: object, kind: str | Range | None = None, metavar: str | None = None,
    names: tuple[str, ...] = (), shown: bool = False, recorded: bool = True, rare: bool = False,
    heading: str | None = None,
) -> Any:  # fmt: skip
    """A field that is an option on which the bytes of an output depend; see `Row`."""
    return Row(help, default, kind, metavar, names, shown, recorded, True, rare, heading)


def local(
    help: str, *, default: object, kind: str | Range | None = None, metavar: str | None = None,
    names: tuple[str, ...] = (), shown: bool = False, rare: bool = False,
    heading: str | None = None,
) -> Any:  # fmt: skip
    """A field that is an option on which no output's bytes depend."""
    return Row(help, default, kind, metavar, names, shown, False, False, rare, heading)


@dataclass_transform(
    kw_only_default=True, frozen_default=True, eq_default=False, field_specifiers=(option, local)
)
class Table:
    """Options as fields with types and defaults: a frozen dataclass to whoever reads or checks it.

    It is not one of the standard library's, which compile code for each class: 4 ms of every start
    for these tables.
    """

    ROWS: ClassVar[dict[str, Row]]

    def __init_subclass__(cls) -> None:
        own = {name: row for name, row in vars(cls).items() if isinstance(row, Row)}
        cls.ROWS = {**getattr(cls, "ROWS", {}), **own}
        for name, row in own.items():
            setattr(cls, name, row.default)

    def __init__(self, **values: object) -> None:
        for name in values:
            if name not in self.ROWS:
                raise TypeError(f"{type(self).__name__}: no option {name}")
        vars(self).update(values)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{type(self).__name__}.{name} cannot be set; see `changed`")

    def changed(self, **values: object) -> Self:
        """These options with other values for some."""
        return type(self)(**{**vars(self), **values})

    def deciding(self) -> dict[str, object]:
        """The options on which the bytes of an output depend, by name."""
        return {name: getattr(self, name) for name, row in self.ROWS.items() if row.decides}

    @classmethod
    def types(cls) -> dict[str, object]:
        """The fields' types."""
        found: dict[str, object] = {}
        for base in reversed(cls.__mro__[:-1]):
            found |= base.__annotations__
        return found


def filled(kind: type[_Options], values: dict[str, object]) -> _Options:
    """A table or a tuple of tables of options' values by their fields' names, which are taken out.

    What a tuple's tables do not have is at its default.
    """
    if issubclass(kind, Table):
        return kind(**{name: values.pop(name) for name in kind.ROWS if name in values})
    tables: Any = kind  # a NamedTuple, of which no type says that it has `_make`
    return tables._make(filled(type(table), values) for table in tables())  # type: ignore[no-any-return]


def flag_of(name: str, row: Row) -> str:
    """The long name of a field's option, without its dashes."""
    long = row.names[-1].partition("/")[0] if row.names else name.replace("_", "-")
    return long.removeprefix("--")


def recorded(tables: Iterable[type[Table]]) -> dict[str, tuple[str, Row]]:
    """The options of tables that outputs record, by their long names: field and row."""
    return {
        flag_of(name, row): (name, row)
        for table in tables for name, row in table.ROWS.items() if row.recorded
    }  # fmt: skip
