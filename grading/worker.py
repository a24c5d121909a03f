"""The worker: runs one student's cells and calls their functions. It shares a process with strangers' code.

So nothing it says is believed: it is sent inputs, and what it sends back is checked elsewhere. A line of JSON comes in,
a line of JSON goes out. What cells print goes nowhere.
"""

import json
import os
import sys


def main() -> None:
    """Answer requests until there are no more."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    requests = os.fdopen(os.dup(0), encoding="utf-8")
    nowhere = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(nowhere, number)

    from IPython.core.interactiveshell import InteractiveShell

    shell = InteractiveShell.instance(colors="nocolor")
    shell.showtraceback = lambda *_, **__: None
    answers.write('{"ready": true}\n')
    answers.flush()
    for line in requests:
        request = json.loads(line)
        try:
            answer = _run(shell, request["code"]) if "code" in request else _attempt(shell, request)
        except BaseException as problem:
            answer = {"error": f"{type(problem).__name__}: {str(problem)[:500]}"}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def _run(shell: object, code: str) -> dict:
    result = shell.run_cell(code, silent=True)
    problem = result.error_before_exec or result.error_in_exec
    return {"error": f"{type(problem).__name__}: {str(problem)[:500]}" if problem else None}


def _attempt(shell: object, request: dict) -> dict:
    import wire

    from kdcourse.checks import trying

    function = shell.user_ns.get(request["function"])
    if not callable(function):
        return {"missing": True}
    outcome = trying.attempt(
        function,
        wire.decode(request["case"]),
        getattr(trying, request["use"]),
        tuple(request["write_yourself"]),
        request["may_use_kdlib"],
    )
    try:
        value, error = wire.encode(outcome.value), outcome.error
    except ValueError as problem:
        value, error = None, f"{type(problem).__name__}: {problem}"
    return {
        "value": value,
        "error": error and error[:500],
        "changed": list(outcome.changed),
        "borrowed": list(outcome.borrowed)[:20],
    }


if __name__ == "__main__":
    sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
    main()
