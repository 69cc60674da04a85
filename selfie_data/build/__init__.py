"""From a source to a dataset: options, plan, shard tasks, workers, the last steps."""
