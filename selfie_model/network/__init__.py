"""The networks: P, A, the task and the classifier."""
