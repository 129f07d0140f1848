"""The paper's numbers (arXiv 2506.14765), read from its charts: every point with units, bounds and known defects.

In: nothing; the tables lie beside this file, and tools/convert_published.py says how they came about. Out: data
frames. Imports errors alone.
"""
