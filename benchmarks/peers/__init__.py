"""What a user would pick instead, each in the way its own documentation calls fastest; one file a system.

Every module offers `PACKAGES`, `SETTINGS` (what was chosen, for the record), `convert(task)` (its own form of the
packed images, made once) and `batches(task)` (an endless iterator of [B, N, p, p, 3]); those of `floors` and `ours` do
too. `benchmarks.harness.serve` runs one as a process.
"""
