"""Tasks for programs: questions drawn from a seed, and verifiers that recompute the answer from the library."""
