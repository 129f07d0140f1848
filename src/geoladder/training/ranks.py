"""The processes of one run: other ranks that are started here, and SIGTERM.

Unusual: Lightning would start the other ranks by running the command line again, which does not exist where a warm
worker forked this process, or a test called a function. Here rank 0 is the caller itself, and the others are started
here, call the same function and die with it. One that is done waits until rank 0 is done, too, and then leaves at
once: leaving earlier would close connections on which rank 0 may still finish an exchange, and an interpreter that
shuts down under the threads of a process group can die of a segmentation fault.
"""

import multiprocessing
import multiprocessing.connection
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess

import torch.distributed
from lightning.fabric.plugins.environments.lightning import find_free_network_port

from geoladder.errors import GeoladderError

GRACE_S = 60.0
"""How long rank 0 waits for the others once it is done or has failed."""
SIGTERM_STATUS = 128 + signal.SIGTERM
"""Exit status of a process ended by SIGTERM, as shells report it."""


@contextmanager
def sigterm_noted() -> Iterator[list[int]]:
    """Note SIGTERM, and SIGHUP of a terminal that closes, in place of dying of it; only the main thread can."""
    noted: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield noted
        return
    # One that is ignored stays so, as under nohup.
    numbers = [n for n in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(n) is not signal.SIG_IGN]
    before = {number: signal.signal(number, lambda number, _: noted.append(number)) for number in numbers}
    try:
        yield noted
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def other_ranks(devices: int, run: Callable[[], object]) -> Iterator[None]:
    """Start ranks 1 to `devices` - 1, each calling `run()`, and be rank 0 while the block runs.

    Where `torchrun` or a cluster has started all ranks already (LOCAL_RANK is set), nothing is started. `run` is a
    module-level function, or a partial of one, that pickles.

    Raises:
        GeoladderError: another rank failed; with its message.
    """
    if devices == 1 or "LOCAL_RANK" in os.environ:
        yield
        return
    group = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(find_free_network_port())}
    ranks = [_start(group | {"LOCAL_RANK": str(number)}, run) for number in range(1, devices)]
    with _environment(group | {"LOCAL_RANK": "0"}):
        try:
            yield
        except (GeoladderError, SystemExit):
            raise  # it concerns all ranks, and they say the same
        except BaseException as problem:
            _blame(ranks, problem)
            raise
        finally:
            _end(ranks)


@contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


def _start(variables: Mapping[str, str], run: Callable[[], object]) -> tuple[SpawnProcess, Connection]:
    """A rank, and the pipe its error message comes through, whose end is the sign to leave."""
    # Forking would copy a process that has threads and maybe a GPU.
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_be_rank, args=(there, run))
    with _environment(variables):  # Lightning reads LOCAL_RANK when it is imported
        process.start()
    there.close()
    return process, here


def _be_rank(rank_zero: Connection, run: Callable[[], object]) -> None:
    threading.Thread(target=_die_with_parent, daemon=True).start()
    try:
        run()
    except GeoladderError as problem:
        rank_zero.send(str(problem))
        status = 1
    except SystemExit as leave:
        status = leave.code if isinstance(leave.code, int) else 1
    else:
        rank_zero.poll(None)  # until rank 0 closes its end
        status = 0
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def _die_with_parent() -> None:
    """A rank that lost rank 0 would wait in a collective for ever."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    multiprocessing.connection.wait([parent.sentinel])
    os.kill(os.getpid(), signal.SIGKILL)


def _blame(ranks: list[tuple[SpawnProcess, Connection]], problem: BaseException) -> None:
    """Raise what another rank said or died of, where that is why rank 0 failed."""
    for number, (process, errors) in enumerate(ranks, start=1):
        process.join(5)
        if process.exitcode:
            reason = f"it ended with status {process.exitcode}"
            if errors.poll():
                with suppress(EOFError):  # a signal killed it before it said anything
                    reason = errors.recv()
            raise GeoladderError(f"rank {number} stopped: {reason}") from problem


def _end(ranks: list[tuple[SpawnProcess, Connection]]) -> None:
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
    for _, connection in ranks:
        connection.close()
    for process, _ in ranks:
        process.join(GRACE_S)
        if process.is_alive():
            process.kill()
            process.join()
