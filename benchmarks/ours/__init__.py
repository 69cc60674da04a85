"""This project as one of the systems. Modules as in `benchmarks.peers`."""
