"""Tables and figures from results, and the views people ask the command line for.

Enters: result files and, after `collect`, only `results.csv` and `laws.json`. Leaves: tables (CSV, TeX), figures
(PDF, PNG and the CSV of every number drawn), quicklooks. `figures/` reads tables alone.
"""
