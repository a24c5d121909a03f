"""Grading: strangers' notebooks run in a worker each; points come from a process they cannot reach."""
