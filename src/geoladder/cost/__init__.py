"""What a model costs: parameters by part, and floating point operations. Enters a module; leaves numbers."""
