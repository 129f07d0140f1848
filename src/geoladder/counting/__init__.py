"""How large a model is: parameters by part, and FLOPs of a forward and a backward pass.

Enters: a model. Leaves: counts. May import `models`.
"""
