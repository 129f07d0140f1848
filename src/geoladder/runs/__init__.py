"""What a job is: files written whole, one job at a time, which code made a result, and the warm worker.

Enters: paths and fingerprints. Leaves: atomic files, locks, birth certificates. Knows nothing of studies or models.
"""
