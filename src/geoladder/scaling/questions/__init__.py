"""Questions asked of fitted laws: comparisons, held-out contests, crossovers, compute-optimal splits."""
