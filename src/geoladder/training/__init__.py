"""Training: chips in, checkpoints out; checkpoints and few labels in, test errors out.

Enters: a spec, a chip folder or the bench, band statistics. Leaves: safetensors with a model card, logs, and result
files with a birth certificate. May import `study`, `data`, `models` and `counting`; `cost`, `report` and the command
line import it.
"""
