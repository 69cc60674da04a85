"""What no loader can beat: decoding alone, and one cached batch. Modules as in `benchmarks.peers`."""
