"""The benchmarks behind scripts/bench. Each module has `run(scratch, rounds)`, which returns its tables."""
