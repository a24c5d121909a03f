"""Feedback for the exercises: ``checks.ex01.soften(your_function)`` says what is wrong with it, and why."""

from kdlib.checks import ex01
from kdlib.checks.part import NotRightYet, Part, judge

__all__ = ["NotRightYet", "Part", "ex01", "judge"]
