"""Drawings of ideas, not of data, for the lessons: each function returns a figure."""
