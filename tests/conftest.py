import os
import threading

import pytest

from http_site import Site

# One thread a process: two spinning pools on two cores starve one another, and results are pinned to a count.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# Before Triton is first imported: its kernels then run in an interpreter, which needs no GPU.
os.environ.setdefault("TRITON_INTERPRET", "1")

pytest_plugins = ["pretraining"]


@pytest.fixture
def site():
    server = Site()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
