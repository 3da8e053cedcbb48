"""What is counted in shared memory, and how it is shown."""
