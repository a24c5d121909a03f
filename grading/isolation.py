"""A worker in a box: started, spoken to, watched, and killed with everything it started.

With bubblewrap it has a file system of its own (the system and Python read-only, a scratch folder in memory), no
network, and sees no other process. Without it, a watchdog alone keeps the limits: strangers' code can then read and
write what the grader can.
"""

import json
import queue
import resource
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from grading import wire

HERE = Path(__file__).resolve().parent
LIBRARY = HERE.parent / "kdlib"
CHECKS = HERE.parent / "kdcourse" / "checks"


START_SECONDS = 60.0
"""That a worker may take to import what it needs, on a busy machine."""


@dataclass(frozen=True)
class Limits:
    """What one worker may use.

    Attributes:
        cell_seconds: wall-clock time of one cell.
        call_seconds: wall-clock time of one call of a function.
        total_seconds: wall-clock time of a submission, all restarts together.
        cpu_seconds: processor time of one process.
        memory: bytes, all its processes together.
        processes: at once.
        threads: of all of them.
        file_size: bytes of one file, and of the scratch folder.
    """

    cell_seconds: float = 60.0
    call_seconds: float = 20.0
    total_seconds: float = 600.0
    cpu_seconds: int = 300
    memory: int = 3 * 2**30
    processes: int = 40
    threads: int = 200
    file_size: int = 64 * 2**20


class WorkerDied(Exception):
    """The worker is no more: it ended itself, was too slow, used too much, or sent what is no answer."""


def has_bubblewrap() -> bool:
    """Whether bubblewrap is there and allowed to do its work on this machine."""
    if sys.platform != "linux" or not shutil.which("bwrap"):
        return False
    probe = ["bwrap", "--unshare-all", "--ro-bind", "/", "/", "--proc", "/proc", "true"]
    return subprocess.run(probe, capture_output=True).returncode == 0


def stage(folder: Path, with_kdlib: bool) -> None:
    """Put together what a worker may import: the worker itself, ``kdlib``, and the checks without their right answers.

    Where no part of an assignment may use ``kdlib``, nothing is left of it but the former path of the checks. Of the
    checks nothing is left but their names, which do nothing.
    """
    for name in ("worker.py", "wire.py"):
        shutil.copy(HERE / name, folder)
    package, checks = folder / "kdlib", folder / "kdcourse" / "checks"
    if with_kdlib:
        shutil.copytree(LIBRARY, package, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        package.mkdir()
        shutil.copy(LIBRARY / "former_paths.py", package)
        (package / "__init__.py").write_text("from kdlib import former_paths\n\nformer_paths.install()\n")
    checks.mkdir(parents=True)
    (checks.parent / "__init__.py").write_text("")
    shutil.copy(CHECKS / "trying.py", checks)
    (checks / "__init__.py").write_text(SILENT_CHECKS)


SILENT_CHECKS = '''"""In grading, checks say nothing."""

import sys
from types import ModuleType


class _Silent(ModuleType):
    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return lambda *_, **__: None


for _number in range(13):
    _name = f"ex{_number:02d}"
    globals()[_name] = sys.modules[f"{__name__}.{_name}"] = _Silent(_name)
'''


class Worker:
    """One worker process; use it in a ``with`` block, so that it ends."""

    def __init__(self, library: Path, limits: Limits, deadline: float, bubblewrap: bool) -> None:
        self.limits, self.deadline = limits, deadline
        self.scratch = None if bubblewrap else tempfile.TemporaryDirectory(prefix="grading-")
        command = _boxed(library, limits) if bubblewrap else [sys.executable, "-I", str(library / "worker.py")]
        environment = {"PATH": "/usr/bin:/bin", "HOME": "/scratch" if bubblewrap else self.scratch.name}
        environment |= {"MPLBACKEND": "agg", "OMP_NUM_THREADS": "1", "KDLIB_PROGRESS": "0", "KDLIB_OFFLINE": "1"}
        environment |= {"IPYTHONDIR": environment["HOME"], "MPLCONFIGDIR": environment["HOME"], "LANG": "C.UTF-8"}
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
            cwd=None if bubblewrap else self.scratch.name,
            start_new_session=True,
            preexec_fn=lambda: _limit(limits),
        )
        self.killed_for = ""
        self._lines: queue.Queue[bytes | None] = queue.Queue(maxsize=4)
        threading.Thread(target=self._listen, daemon=True).start()
        threading.Thread(target=self._watch, daemon=True).start()

    def __enter__(self) -> "Worker":
        """Wait until it is ready; its start is nobody's fault but this machine's.

        Raises:
            OSError: it did not start.
            WorkerDied: the deadline was over before.
        """
        try:
            ready = self._answer(START_SECONDS).get("ready")
        except WorkerDied as problem:
            self.kill()
            if time.monotonic() >= self.deadline:
                raise
            raise OSError(f"the worker did not start: {problem}") from None
        if not ready:
            self.kill()
            raise OSError("the worker did not start")
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def ask(self, request: dict, seconds: float) -> dict:
        """Send a request, and give its answer.

        Raises:
            WorkerDied: says why, in words for a student.
        """
        try:
            self.process.stdin.write((json.dumps(request) + "\n").encode())
            self.process.stdin.flush()
        except OSError:
            pass
        return self._answer(seconds)

    def kill(self) -> None:
        """End the worker and everything it started; it first, so that it starts no more."""
        for _ in range(5):
            family = self._family()
            for process in [self.process, *family]:
                with suppress(psutil.Error, OSError):
                    process.kill()
            if not family:
                break
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            with suppress(OSError):
                pipe.close()
        with suppress(queue.Empty):  # whoever listens may wait for room
            while True:
                self._lines.get_nowait()
        if self.scratch:
            shutil.rmtree(self.scratch.name, ignore_errors=True)

    def _answer(self, seconds: float) -> dict:
        patience = min(seconds, self.deadline - time.monotonic())
        try:
            line = self._lines.get(timeout=max(patience, 0.0))
        except queue.Empty:
            whole = patience < seconds
            said = "the whole notebook took too long" if whole else f"took longer than {seconds:g} seconds"
            raise WorkerDied(said) from None
        if line is None:
            raise WorkerDied(self.killed_for or "ended the process that runs it")
        try:
            answer = json.loads(line)
        except (ValueError, RecursionError):
            answer = None
        if type(answer) is not dict:
            raise WorkerDied("wrote where only answers belong")
        return answer

    def _listen(self) -> None:
        while True:
            try:
                line = self.process.stdout.readline(2 * wire.LONGEST)
            except (OSError, ValueError):
                line = b""
            if line and not line.endswith(b"\n") and len(line) >= 2 * wire.LONGEST:
                self.killed_for, line = "gave an answer that is too large", b""
            self._lines.put(line or None)
            if not line:
                return

    def _watch(self) -> None:
        while self.process.poll() is None:
            family = self._family()
            memory = threads = 0
            for process in family:
                try:
                    memory += process.memory_info().rss
                    threads += process.num_threads()
                except psutil.Error:
                    continue
            if len(family) > self.limits.processes:
                self.killed_for = f"started more than {self.limits.processes} processes"
            elif threads > self.limits.threads:
                self.killed_for = f"started more than {self.limits.threads} threads"
            elif memory > self.limits.memory:
                self.killed_for = f"used more than {self.limits.memory / 2**30:g} GiB of memory"
            elif time.monotonic() > self.deadline:
                self.killed_for = "the whole notebook took too long"
            if self.killed_for:
                for process in [self.process, *family]:
                    try:
                        process.kill()
                    except (psutil.Error, OSError):
                        continue
                return
            time.sleep(0.1)

    def _family(self) -> list[psutil.Process]:
        """Its processes, those too that changed their parent but not their session."""
        try:
            family = psutil.Process(self.process.pid).children(recursive=True)
        except psutil.Error:
            family = []
        if self.scratch is None:
            return family
        known = {process.pid for process in family} | {self.process.pid}
        for process in psutil.process_iter():
            try:
                if process.pid not in known and process.environ().get("HOME") == self.scratch.name:
                    family.append(process)
            except (psutil.Error, OSError):
                continue
        return family


def _limit(limits: Limits) -> None:
    resource.setrlimit(resource.RLIMIT_CPU, (limits.cpu_seconds, limits.cpu_seconds))
    resource.setrlimit(resource.RLIMIT_FSIZE, (limits.file_size, limits.file_size))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _boxed(library: Path, limits: Limits) -> list[str]:
    """The command with bubblewrap around it."""
    box = ["bwrap", "--unshare-all", "--die-with-parent", "--new-session", "--cap-drop", "ALL"]
    box += ["--proc", "/proc", "--dev", "/dev"]
    for folder in ("/tmp", "/scratch", "/dev/shm"):
        box += ["--size", str(limits.file_size), "--tmpfs", folder]
    for path in (
        "/usr",
        "/lib",
        "/lib64",
        "/lib32",
        "/bin",
        "/sbin",
        "/etc/ld.so.cache",
        "/etc/localtime",
        "/etc/fonts",
    ):
        if Path(path).exists():
            box += ["--ro-bind", path, path]
    for prefix in dict.fromkeys((sys.base_prefix, sys.prefix)):
        if not prefix.startswith("/usr"):
            box += ["--ro-bind", prefix, prefix]
    for package in ("kdlib", "kdcourse"):
        installed = Path(sysconfig.get_paths()["purelib"]) / package
        if installed.is_dir():
            box += ["--tmpfs", str(installed)]
    box += ["--ro-bind", str(library), "/library"]
    return [*box, "--chdir", "/scratch", "--remount-ro", "/", sys.executable, "-I", "/library/worker.py"]
