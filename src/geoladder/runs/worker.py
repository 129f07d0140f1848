"""A warm parent process that forks one job per request, so that small cells do not each import torch.

Importing torch and Lightning takes seconds, more than many cells of a laptop study. The workflow starts one worker
per run; `geoladder <verb>` hands its arguments, environment, folder and open files to it over a Unix socket, and a
forked child does the work as if it had been started by the caller. Death travels both ways: a child whose caller
vanishes gets SIGTERM, a caller whose child vanishes exits with a message. A caller to whom no child answers does the
work itself. The worker leaves with its parent, which holds the other end of its standard input.
"""

import contextlib
import json
import os
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from geoladder.errors import GeoladderError

SOCKET_VARIABLE = "GEOLADDER_WORKER"
GRACE_S = 60.0
PATIENCE_S = 300.0
"""A caller waits so long for a child to begin; a worker that must compile its kernels first takes a minute."""
STARTED = b"!"


class WorkerGoneError(GeoladderError):
    """No child of a worker has begun or will begin the job."""


def call(arguments: list[str], path: str) -> int:
    """Run `geoladder ARGUMENTS` in a child of the worker that listens at `path`; return its exit status.

    SIGTERM and SIGINT received meanwhile are passed on. Raises WorkerGoneError where no child begins, and
    GeoladderError where one that has begun dies without an answer.
    """
    with socket.socket(socket.AF_UNIX) as connection:
        started = b""
        with contextlib.suppress(OSError):
            connection.settimeout(PATIENCE_S)
            connection.connect(path)
            request = {"arguments": arguments, "folder": str(Path.cwd()), "environment": dict(os.environ)}
            socket.send_fds(connection, [b"!"], [0, 1, 2])
            connection.sendall(json.dumps(request).encode() + b"\n")
            started = connection.recv(1)
        if started != STARTED:
            raise WorkerGoneError(
                f"the warm worker at {path} is gone (out of memory, or killed); jobs go on without it, each in a "
                "process of its own, which takes seconds longer to start"
            )
        connection.settimeout(None)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda caught, _frame: connection.sendall(bytes([caught])))
        status = b""
        with contextlib.suppress(ConnectionError):
            status = connection.recv(1)
    if not status:
        raise GeoladderError(
            "the job was killed before it finished (out of memory, or by hand); run the same command again, it "
            "resumes where it can"
        )
    return status[0]


def serve(path: str, warm_up: Callable[[], None], main: Callable[[list[str]], int]) -> None:
    """Fork a child per request until standard input ends, as it does when the parent dies.

    Callers may connect to the socket at `path` while `warm_up` still imports what jobs need. `main` runs a job in a
    child, from its arguments to its exit status.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"{path}.new")
        listener.listen(64)
        Path(f"{path}.new").rename(path)  # callers take a socket that is there for one that listens
        warm_up()
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel reaps; a child answers its caller itself
        while sys.stdin not in select.select([listener, sys.stdin], [], [])[0]:
            connection, _ = listener.accept()
            if os.fork() == 0:
                listener.close()
                _child(connection, main)
            connection.close()
    remove_socket(Path(path))


def remove_socket(path: Path) -> None:
    """Remove a worker's socket, and its folder if that holds nothing else; anything but a socket stays."""
    with contextlib.suppress(OSError):
        if path.is_socket():
            path.unlink()
        if path.parent.name.startswith("geoladder-"):
            path.parent.rmdir()


def _child(connection: socket.socket, main: Callable[[list[str]], int]) -> None:
    """Become the caller (files, folder, environment), run the job, answer with its exit status. Never returns."""
    status = 1
    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        _, files, _, _ = socket.recv_fds(connection, 1, 3)
        caller = connection.makefile("rb")
        request = json.loads(caller.readline())
        for target, source in enumerate(files):
            os.dup2(source, target)
        os.chdir(request["folder"])
        os.environ.clear()
        os.environ.update(request["environment"])
        os.environ.pop(SOCKET_VARIABLE, None)
        connection.sendall(STARTED)  # fails where the caller has left, maybe to do the work itself
        threading.Thread(target=_obey, args=(caller,), daemon=True).start()
        status = main(request["arguments"])
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        with contextlib.suppress(OSError):
            connection.sendall(bytes([status]))
        os._exit(status)


def _obey(caller: BinaryIO) -> None:
    """Pass the caller's signals on to this process; when the caller is gone, end it."""
    with contextlib.suppress(OSError):
        while number := caller.read(1):
            os.kill(os.getpid(), number[0])
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE_S)
    os.kill(os.getpid(), signal.SIGKILL)
