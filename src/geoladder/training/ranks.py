"""The processes of one run on this machine: rank 0 is the caller itself, the others are started here and die with it.

Unusual: Lightning would start the others by running the command line again, which does not exist where a warm worker
forked this process, or a test called a function. Here they call the same function with the same arguments. Where
`torchrun` or a cluster has started all ranks already (LOCAL_RANK is set), nothing is started.
"""

import multiprocessing
import multiprocessing.connection
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from typing import Any, NamedTuple

import torch.distributed
from lightning.fabric.plugins.environments.lightning import find_free_network_port

from geoladder.errors import GeoladderError

GRACE_S = 60.0
"""How long rank 0 waits for the others once it is done or has failed."""


class Other(NamedTuple):
    """A rank that was started here, and where its last words come from."""

    rank: int
    process: SpawnProcess
    words: Connection


@contextmanager
def other_ranks(devices: int, run: Callable[..., None], arguments: Mapping[str, Any]) -> Iterator[None]:
    """Start ranks 1 to `devices` - 1, each calling `run(**arguments)`, and be rank 0 while the block runs.

    Args:
        devices: ranks in all; 1 starts nothing.
        run: a module-level function.
        arguments: for it; they must pickle.

    Raises:
        GeoladderError: another rank failed; with its message.
    """
    if devices == 1 or "LOCAL_RANK" in os.environ:
        yield
        return
    group = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(find_free_network_port())}
    others = [_start(rank, group, run, arguments) for rank in range(1, devices)]
    with _environment(group | {"LOCAL_RANK": "0"}):
        try:
            yield
        except (GeoladderError, SystemExit):
            raise  # it concerns all ranks, and they say the same
        except BaseException as problem:
            _blame(others, problem)
            raise
        finally:
            _end(others)


@contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _start(
    rank: int, group: Mapping[str, str], run: Callable[..., None], arguments: Mapping[str, Any]
) -> Other:
    # Forking would copy a process that has threads and maybe a GPU.
    context = multiprocessing.get_context("spawn")
    mouth, ear = context.Pipe(duplex=False)[::-1]
    process = context.Process(target=_be_rank, args=(rank, mouth, run, dict(arguments)))
    with _environment({**group, "LOCAL_RANK": str(rank)}):  # Lightning reads it when it is imported
        process.start()
    mouth.close()
    return Other(rank, process, ear)


def _be_rank(rank: int, mouth: Connection, run: Callable[..., None], arguments: dict[str, Any]) -> None:
    threading.Thread(target=_die_with_parent, daemon=True).start()
    try:
        run(**arguments)
    except GeoladderError as problem:
        mouth.send(str(problem))
        sys.exit(1)


def _die_with_parent() -> None:
    """A rank that lost rank 0 would wait in a collective for ever."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    multiprocessing.connection.wait([parent.sentinel])
    os.kill(os.getpid(), signal.SIGKILL)


def _blame(others: list[Other], problem: BaseException) -> None:
    """Raise what another rank said or died of, where that is why rank 0 failed."""
    for other in others:
        other.process.join(5)
        if other.process.exitcode:
            said = (
                other.words.recv() if other.words.poll() else f"it ended with status {other.process.exitcode}"
            )
            raise GeoladderError(f"rank {other.rank} stopped: {said}") from problem


def _end(others: list[Other]) -> None:
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
    for other in others:
        other.process.join(GRACE_S)
        if other.process.is_alive():
            other.process.kill()
            other.process.join()
