"""Everything there is to ask of a GPU, in sections that run alone: `python -m benchmarks.gpu`.

No GPU figure is claimed before this has run on one: `--dry-run` walks the same paths on the CPU with tiny sizes and its
numbers mean nothing.
"""
