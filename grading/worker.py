"""The worker: it runs one student's cells and calls their functions, in the same process as their code.

So its answers are not trusted: it gets inputs, and its results are checked elsewhere. Each request and each answer is
one line of JSON. The output of cells is discarded.

A function can be kept: a copy of the whole process (a fork) waits in the state at its check. After the last cell the
copy gets the held-out inputs.
"""

import json
import os
import resource
import shutil
import signal
import socket
import sys
from typing import TextIO


def main() -> None:
    """Answer requests until there are no more."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    requests = os.fdopen(os.dup(0), encoding="utf-8")
    nowhere = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(nowhere, number)
    _give_up_rights()
    beside = os.path.join(os.path.dirname(os.path.abspath(__file__)), "beside")
    for name in os.listdir(beside) if os.path.isdir(beside) else []:
        shutil.copyfile(os.path.join(beside, name), name)

    from ipykernel.inprocess.ipkernel import InProcessKernel
    from traitlets.config import Config

    shell = InProcessKernel(config=Config({"HistoryManager": {"enabled": False}})).shell
    shell.showtraceback = lambda *_, **__: None
    sys.path.insert(0, "")
    answers.write('{"ready": true}\n')
    answers.flush()
    _serve(shell, {}, requests, answers)


def _give_up_rights() -> None:
    """Become a user who owns nothing, if the grader is root, and limit the number of processes and threads."""
    nobody = int(os.environ.pop("GRADING_UID", "0"))
    if nobody:
        os.setgroups([])
        os.setresgid(nobody, nobody, nobody)
        os.setresuid(nobody, nobody, nobody)
    most = int(os.environ.pop("GRADING_TASKS", "0"))
    if most:
        resource.setrlimit(resource.RLIMIT_NPROC, (most, most))


def _serve(shell: object, kept: dict, requests: TextIO, answers: TextIO) -> None:
    for line in requests:
        request = json.loads(line)
        try:
            if "code" in request:
                answer = _run(shell, request["code"])
            elif "keep" in request:
                answer = _keep(shell, kept, request["keep"])
            elif "kept" in request:
                answer = _ask_kept(kept[request["kept"]], request["request"], request["seconds"])
            else:
                answer = _attempt(shell, request)
        except BaseException as problem:
            answer = {"error": f"{type(problem).__name__}: {str(problem)[:500]}"}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def _run(shell: object, code: str) -> dict:
    from kdcourse.checks import CHECKED

    CHECKED.clear()
    result = shell.run_cell(code, store_history=True)
    problem = result.error_before_exec or result.error_in_exec
    return {
        "error": f"{type(problem).__name__}: {str(problem)[:500]}" if problem else None,
        "checked": list(CHECKED),
    }


def _attempt(shell: object, request: dict) -> dict:
    import wire

    from kdcourse.checks import CHECKED, trying

    function = (CHECKED if request["checked"] else shell.user_ns).get(request["function"])
    if not callable(function):
        return {"missing": True}
    with trying.fixed_state():
        case = wire.decode(request["case"])
    with shell.builtin_trap, shell.display_trap:
        outcome = trying.attempt(
            function,
            case,
            getattr(trying, request["use"]),
            tuple(request["write_yourself"]),
            request["may_use_kdlib"],
        )
    return {
        "value": wire.encode(outcome.value),
        "error": outcome.error and outcome.error[:500],
        "changed": list(outcome.changed),
        "borrowed": list(outcome.borrowed)[:20],
    }


# --- functions that are kept ---------------------------------------------------------------------


def _keep(shell: object, kept: dict, name: str) -> dict:
    ours, theirs = socket.socketpair()
    child = os.fork()
    if child:
        theirs.close()
        kept[name] = child, ours
        return {"kept": True}
    try:
        ours.close()
        import torch

        torch.set_num_threads(1)  # a pool of threads does not survive in a copy
        torch.set_num_threads = lambda _: None
        _serve(shell, {}, theirs.makefile("r", encoding="utf-8"), theirs.makefile("w", encoding="utf-8"))
    finally:
        os._exit(0)


def _ask_kept(copy: tuple[int, socket.socket], request: dict, seconds: float) -> dict:
    child, channel = copy
    channel.settimeout(seconds)
    received = b""
    try:
        channel.sendall((json.dumps(request) + "\n").encode())
        while not received.endswith(b"\n"):
            piece = channel.recv(2**20)
            if not piece:
                return {"died": "ended the process that runs it"}
            received += piece
    except TimeoutError:
        os.kill(child, signal.SIGKILL)
        return {"died": f"took longer than {seconds:g} seconds"}
    except OSError:
        return {"died": "ended the process that runs it"}
    return json.loads(received)


if __name__ == "__main__":
    sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
    main()
