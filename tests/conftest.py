import os

# One thread a process: two spinning pools on two cores starve one another, and results are pinned to a count.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
