"""What is on disk, and how it is opened, read, checked and divided."""
