"""The comparison of the paper: cells, runs, the table."""
