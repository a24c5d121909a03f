"""The course around kdlib: feedback for the exercises, studies with stored results, the demonstration, self-tests."""


def self_test(lesson: str) -> None:
    """Ask the "Test yourself" questions of a lesson, and score each answer at once, with the reason.

    In a notebook there are buttons, elsewhere a letter is typed. In a learner's own copy the result is kept in
    ``my/progress.json``, and ``kdlib progress`` shows it.

    Args:
        lesson: its number, such as ``"03"`` or ``"03a"``.
    """
    from kdcourse.selftests import asking

    asking.show(lesson)
