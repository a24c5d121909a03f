"""Grading: each student's notebook runs in its own worker; points come from a process that it cannot reach."""
