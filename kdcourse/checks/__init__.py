"""Feedback for the exercises: ``checks.ex01.soften(your_function)`` says what is wrong with it and why."""

from kdcourse.checks.part import Mistake, NotRightYet, Part, Verdict, judge

__all__ = ["Mistake", "NotRightYet", "Part", "Verdict", "judge"]
