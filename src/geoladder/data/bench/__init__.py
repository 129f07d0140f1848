"""PhilEO Bench: its files, an index of them, and few-shot draws.

Enters: a folder of npy files. Leaves: images of stored DN with their labels. May import
`data.archives`, `data.index`, `data.labels`.
"""
