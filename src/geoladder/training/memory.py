"""Too little memory, said in one line with what helps, on a GPU and on a CPU alike."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from geoladder.errors import GeoladderError

REFUSED = ("DefaultCPUAllocator", "not enough memory", "bad allocation", "cannot allocate memory")
"""How messages of plain RuntimeErrors begin or go on, by which torch says so on a CPU."""
LESS_TRAINING_MEMORY = (
    "set a smaller compute.micro_batch, or compute.activation_checkpointing; share the weights by compute.strategy "
    "fsdp on several devices (`geoladder plan` says what fits on which card)"
)


@contextmanager
def memory_for(what: str, remedy: str) -> Iterator[None]:
    """Where the block runs out of memory, say that `what` did not fit, and the `remedy`.

    Raises:
        GeoladderError: it ran out.
    """
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as problem:
        is_memory = isinstance(problem, torch.OutOfMemoryError | MemoryError)
        if not is_memory and not any(words in str(problem) for words in REFUSED):
            raise
        first = str(problem).strip().partition("\n")[0]
        raise GeoladderError(f"{what} does not fit into memory ({first[:200]}); {remedy}") from None
