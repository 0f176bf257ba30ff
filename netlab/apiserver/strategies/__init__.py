"""What is special about each kind: defaults, checks, what a writer may touch, how it dies. One file per family."""
