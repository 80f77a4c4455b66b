"""Results of runs: loading and joining tables, replicates, the paper's statements, comparisons."""
