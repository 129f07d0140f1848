"""Scripts of this folder, run by the Python of an environment with TerraTorch, which lies beside the tests' own.

GEOLADDER_TERRATORCH is that Python; tools/terratorch_env.sh makes the environment. Without it, or where a machine is
too slow or has too little memory, tests are skipped: they then say nothing of the code.
"""

import os
import signal
import subprocess
from pathlib import Path

import pytest

PYTHON = os.environ.get("GEOLADDER_TERRATORCH", "")
LONGEST_S = 150.0
"""Of one script; there are seven, so .ci/run ends in time on a slow machine, too."""
needs_terratorch = pytest.mark.skipif(
    not Path(PYTHON).is_file(), reason="GEOLADDER_TERRATORCH names no Python (tools/terratorch_env.sh)"
)


def run_beside(script, *arguments, pythonpath=""):
    """Run a script to its end; a failure of it is one of the test."""
    words = [PYTHON, str(Path(__file__).with_name(script)), *map(str, arguments)]
    env = os.environ | {"PYTHONPATH": str(pythonpath), "HF_HUB_OFFLINE": "1"}
    try:
        done = subprocess.run(words, capture_output=True, text=True, env=env, timeout=LONGEST_S)
    except subprocess.TimeoutExpired:
        pytest.skip(f"TerraTorch took more than {LONGEST_S:g} s here")
    if done.returncode == -signal.SIGKILL:
        pytest.skip("TerraTorch was killed, as where memory is short")
    assert done.returncode == 0, done.stderr
