"""What a model costs: parameters by part, operations, memory, and measured speed. Enters a rung; leaves numbers."""
