"""Entries of one kind, one a file of a package: to add one, put a file there.

The packages lie above this room and are imported by their name when an entry is first asked for, so that a
study can check names without importing what runs them.
"""

import pkgutil
from collections import UserDict
from functools import cached_property
from importlib import import_module
from types import ModuleType
from typing import TypeVar

from pydantic import ValidationError

from geoladder.errors import GeoladderError, faults_of
from geoladder.registry.architecture import Architecture
from geoladder.registry.target import Target
from geoladder.registry.task import Task
from geoladder.suggest import nearest

Entry = TypeVar("Entry", Architecture, Target, Task)


class Registry(UserDict[str, Entry]):
    """The entries of a package by name, in the order of its files, which are read when first asked for.

    Each of its modules holds an `entry`; `Architecture` is called `ARCHITECTURE` there.
    """

    def __init__(self, package: str, entry: type[Entry]) -> None:
        self._package = package
        self._entry: type[Entry] = entry
        self._kind, self._attribute = entry.__name__.lower(), entry.__name__.upper()

    def __missing__(self, name: str) -> Entry:
        """Refuse a name that no entry has."""
        raise GeoladderError(f"unknown {self._kind} '{name}'{nearest(name, self)}")

    def module_of(self, name: str) -> str:
        """Dotted name of the module that defines the entry of that name; raises as `[name]` does."""
        return self._modules[self[name].name].__name__

    @cached_property
    def data(self) -> dict[str, Entry]:  # type: ignore[override]
        """The entries; raises GeoladderError where a file of the package has no usable one."""
        return {name: getattr(module, self._attribute) for name, module in self._modules.items()}

    @cached_property
    def _modules(self) -> dict[str, ModuleType]:
        modules: dict[str, ModuleType] = {}
        for file in pkgutil.iter_modules(import_module(self._package).__path__):
            module = self._load(f"{self._package}.{file.name}")
            name = getattr(module, self._attribute).name
            if name in modules:
                both = f"{module.__file__} and {modules[name].__file__}"
                raise GeoladderError(f"{both} both define the {self._kind} '{name}'; rename one")
            modules[name] = module
        return modules

    def _load(self, name: str) -> ModuleType:
        try:
            module = import_module(name)
        except Exception as problem:
            file = f"{name.replace('.', '/')}.py"
            raise GeoladderError(f"{file} defines no usable {self._kind}: {_reason(problem)}") from problem
        if not isinstance(getattr(module, self._attribute, None), self._entry):
            raise GeoladderError(
                f"{module.__file__} defines no {self._kind}: it needs `{self._attribute} = "
                f"{self._entry.__name__}(...)`"
            )
        return module


def _reason(problem: Exception) -> str:
    """What stopped an entry, on one line."""
    if isinstance(problem, ValidationError):
        return faults_of(problem)
    return str(problem) if isinstance(problem, GeoladderError) else f"{type(problem).__name__}: {problem}"
