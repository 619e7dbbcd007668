"""What `make bench` measures: a module for the queue, and one for each engine."""
