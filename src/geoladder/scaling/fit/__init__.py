"""One law on one table of runs: global optimum, profile and bootstrap intervals, verdict, prediction."""
