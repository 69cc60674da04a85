"""From a loader and a configuration to a run folder: loop, optimiser, checkpoints, processes."""
