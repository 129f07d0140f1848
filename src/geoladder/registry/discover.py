"""Entries of one kind, one a file of a package: to add one, put a file there.

The packages lie above this room and are imported by their name when an entry is first asked for, so that a
study can check names without importing what runs them.
"""

import pkgutil
from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Generic, Protocol, TypeVar

from pydantic import ValidationError

from geoladder.errors import GeoladderError
from geoladder.suggest import nearest


class Named(Protocol):
    """Anything with a name."""

    @property
    def name(self) -> str:
        """As studies spell it."""
        ...


Entry = TypeVar("Entry", bound=Named)


class Registry(Mapping[str, Entry], Generic[Entry]):
    """The entries of a package by name, in the order of its files.

    Args:
        kind: of the entries, for messages: `architecture`.
        package: whose modules hold one entry each.
        entry: class of the entries.
        attribute: name of the entry in its module: `ARCHITECTURE`.
    """

    def __init__(self, kind: str, package: str, entry: type[Entry], attribute: str) -> None:
        self._kind, self._package, self._entry, self._attribute = kind, package, entry, attribute
        self._entries: dict[str, Entry] | None = None
        self._modules: dict[str, str] = {}

    def __getitem__(self, name: str) -> Entry:
        """The entry of that name.

        Raises:
            GeoladderError: there is none, or an entry of the package is unusable.
        """
        entries = self._read()
        if name not in entries:
            raise GeoladderError(f"unknown {self._kind} '{name}'{nearest(name, entries)}")
        return entries[name]

    def __contains__(self, name: object) -> bool:
        """Whether there is an entry of that name."""
        return name in self._read()

    def __iter__(self) -> Iterator[str]:
        """Names, in the order of the files."""
        return iter(self._read())

    def __len__(self) -> int:
        """Number of entries."""
        return len(self._read())

    def module_of(self, name: str) -> str:
        """Dotted name of the module that defines the entry of that name; raises as `[name]` does."""
        return self._modules[self[name].name]

    def _read(self) -> dict[str, Entry]:
        if self._entries is None:
            entries: dict[str, Entry] = {}
            files: dict[str, str] = {}
            for module in pkgutil.iter_modules(import_module(self._package).__path__):
                path = f"{self._package}.{module.name}"
                entry, file = self._load(path)
                if entry.name in entries:
                    raise GeoladderError(
                        f"{file} and {files[entry.name]} both define the {self._kind} '{entry.name}'; rename one"
                    )
                entries[entry.name], files[entry.name], self._modules[entry.name] = entry, file, path
            self._entries = entries
        return self._entries

    def _load(self, module: str) -> tuple[Entry, str]:
        try:
            loaded = import_module(module)
        except Exception as problem:
            file = f"{module.replace('.', '/')}.py"
            raise GeoladderError(f"{file} defines no usable {self._kind}: {_reason(problem)}") from problem
        file = str(loaded.__file__)
        entry = getattr(loaded, self._attribute, None)
        if not isinstance(entry, self._entry):
            raise GeoladderError(
                f"{file} defines no {self._kind}: it needs `{self._attribute} = {self._entry.__name__}(...)`"
            )
        return entry, file


def _reason(problem: Exception) -> str:
    """What stopped an entry, on one line."""
    if isinstance(problem, ValidationError):
        parts = ((".".join(map(str, error["loc"])), error["msg"]) for error in problem.errors())
        return "; ".join(
            f"{place}: {text}".removeprefix(": ").replace("Value error, ", "") for place, text in parts
        )
    return f"{type(problem).__name__}: {problem}" if not isinstance(problem, GeoladderError) else str(problem)
