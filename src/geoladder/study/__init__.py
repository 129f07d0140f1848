"""The study: config.yaml as types, one spec per node of the graph, and the result files they must give.

Enters: a YAML file. Leaves: a validated `Study`, and of each node the canonical JSON it depends on. May import
`runs` and `registry`. It imports no torch, since the workflow draws its graph with it.
"""
