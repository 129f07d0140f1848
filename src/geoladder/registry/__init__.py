"""What a study may name, one file an entry: the contracts of entries, and how they are discovered.

Enters: files of the packages that hold entries. Leaves: mappings from names to entries. Imports no torch and no other
room, so that every room may ask it.
"""

from geoladder.registry.architecture import Architecture
from geoladder.registry.discover import Registry
from geoladder.registry.target import Target
from geoladder.registry.task import Task

ARCHITECTURES = Registry("geoladder.models.architectures", Architecture)
TARGETS = Registry("geoladder.training.targets", Target)
TASKS = Registry("geoladder.training.tasks", Task)  # type: ignore[type-abstract]
