"""What is asked of every system: the images, the task, the systems that take part, and whether they did the same."""
