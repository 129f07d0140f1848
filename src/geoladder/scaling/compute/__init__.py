"""How to spend compute: the best N and D for a budget, from a fitted law or from runs alone."""
