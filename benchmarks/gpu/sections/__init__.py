"""One file a question; every module has `run(setting)`, which prints records as they come. `benchmarks.gpu.plan` lists
which module answers for which section.
"""
