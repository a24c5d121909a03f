"""What tests in a browser share: Chromium and its flags, a JupyterLab of one's own, waiting."""

import json
import shutil
import socket
import subprocess
import time
import urllib.request
from contextlib import contextmanager

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
"""The program, or None where there is none."""

FLAGS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-sync"]


def answer(url):
    """What the server says, or None while it is not ready."""
    try:
        return json.load(urllib.request.urlopen(url, timeout=2))
    except OSError:
        return None


def wait_for(condition, seconds, what):
    """The condition's first true value; the test fails if there is none in time."""
    deadline = time.monotonic() + seconds
    while not (result := condition()):
        assert time.monotonic() < deadline, f"no {what} within {seconds} s"
        time.sleep(0.25)
    return result


@contextmanager
def jupyterlab(command, log, **popen):
    """The address of a JupyterLab on a free port of this machine, which ends with the block."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    alone = ["--no-browser", "--allow-root", "--ip=127.0.0.1", f"--port={port}", "--ServerApp.port_retries=0"]
    with open(log, "w") as out:
        server = subprocess.Popen([*command, *alone, "--IdentityProvider.token="], stdout=out, stderr=out, **popen)
        try:
            wait_for(lambda: answer(f"http://127.0.0.1:{port}/api/status"), 120, f"server ({log})")
            yield f"http://127.0.0.1:{port}"
        finally:
            server.terminate()
            server.wait(60)
