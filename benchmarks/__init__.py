"""One file a question; every number is a `Record` in `results/`, and nothing is claimed without one."""
