"""What a model costs: parameters by part, operations, memory, and measured speed. Enters a rung; leaves numbers.

May import `study`, `data`, `models`, `counting` and `training`; `report`, the command line and tools import it.
"""
