"""Runtimes in processes of their own: one for a model (`Process`), or one for all of them (`Server`)."""

from __future__ import annotations

import atexit
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import weakref
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

import numpy as np

from hub import errors
from hub.sidecar.protocol import read_arrays, write_arrays

__all__ = ["PATIENCE", "Died", "LoadFailed", "Process", "RunFailed", "Server", "own_python", "refusal"]

Array = np.ndarray[Any, Any]

_TIMEOUT = 900.0
PATIENCE = 4 * 3600.0
"""Seconds after which a conversion by another project's converter is given up."""
_IDLE = 30.0


class LoadFailed(Exception):
    """The runtime cannot load the model. The message is the runtime's own, in one line."""


class RunFailed(Exception):
    """The runtime loaded the model and cannot run it on these inputs."""


class Died(RunFailed):
    """The process ended in place of an answer. The message is its last words."""


class Process:
    """A program that answers requests as `hub.sidecar.protocol` says, and its private folder.

    `explain` picks the runtime's own message out of what the program wrote to standard error; `progress` is called
    with what it says of its work; after `timeout` seconds without an answer it is ended.
    """

    def __init__(
        self,
        arguments: Sequence[str],
        environment: Mapping[str, str],
        explain: Callable[[str], str] = lambda text: "",
        progress: Callable[[str], None] = lambda stage: None,
        timeout: float | None = None,
    ) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="hub-"))
        self._remove = weakref.finalize(self, _remove, self.folder, os.getpid())
        self._explain, self._progress, self._timeout = explain, progress, timeout
        self._errors = open(self.folder / "stderr", "a+b")  # noqa: SIM115 (closed in close)
        # The working directory is private: a `keras.py` lying about where the user works is not Keras.
        self._process = subprocess.Popen(
            arguments,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            cwd=self.folder,
            env={**os.environ, **environment},
        )

    def ask(self, request: Mapping[str, Any]) -> Any:
        """Send one request and wait for its answer.

        Raises:
            LoadFailed: the answer says so.
            RunFailed: the answer says so.
            HubError: the answer says so, see `refusal`.
            Died: the process ended, or had to be ended because no answer came.
        """
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        self._errors.truncate(0)
        late = threading.Event()
        timeout = self._timeout or _TIMEOUT
        timer = threading.Timer(timeout, self._give_up, [late])
        timer.start()
        try:
            stdin.write(json.dumps(request).encode() + b"\n")
            stdin.flush()
            answer = self._answer(stdout)
        except OSError:
            answer = None
        except BaseException:  # the answer to this request must not be taken for that to the next one
            self._process.kill()
            self._process.wait()
            raise
        finally:
            timer.cancel()
        if answer is None:
            status = self._process.wait()
            raise Died(f"no answer came in {timeout:.0f} seconds" if late.is_set() else self._last_words(status))
        if "error" in answer:
            if answer["error"] == "hub":
                raise _raised(answer)
            raise (LoadFailed if answer["error"] == "load" else RunFailed)(answer["message"])
        return answer

    def _answer(self, stdout: IO[bytes]) -> Any:
        """The next answer; None if the process has ended. What it says before is passed on."""
        while line := stdout.readline():
            answer = json.loads(line)
            if set(answer) != {"progress"}:
                return answer
            self._progress(answer["progress"])
        return None

    def ask_arrays(self, request: Mapping[str, Any], feeds: Mapping[str, Array]) -> dict[str, Array]:
        """The same for a request with arrays, the answer to which is arrays."""
        sent, received = str(self.folder / "feeds.npz"), str(self.folder / "outputs.npz")
        answer = self.ask({**request, "feeds": sent, "names": write_arrays(sent, feeds), "to": received})
        return read_arrays(received, answer["names"])

    @property
    def alive(self) -> bool:
        """Whether it can still answer."""
        return self._process.poll() is None

    def close(self) -> None:
        """End the process and remove its files. It may be called twice."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe:
                with suppress(OSError):  # what a dead process did not take
                    pipe.close()
        self._errors.close()
        self._remove()

    def _give_up(self, late: threading.Event) -> None:
        late.set()
        self._process.kill()

    def _last_words(self, status: int) -> str:
        self._errors.seek(0)
        text = self._errors.read().decode(errors="replace")
        if message := self._explain(text):
            return message
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        how = f"was ended by signal {-status}" if status < 0 else f"ended with status {status}"
        return f"its process {how}" + (f": {' | '.join(lines[-3:])[-600:]}" if lines else "")


def own_python(module: str, *arguments: str) -> tuple[list[str], dict[str, str]]:
    """What starts a module of this distribution in another process of this Python: the arguments, the environment."""
    root = str(Path(__file__).resolve().parents[2])
    search = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    return [sys.executable, "-m", module, *arguments], {"PYTHONPATH": search}


def refusal(error: errors.HubError) -> dict[str, Any]:
    """An error as the answer to a request; `Process.ask` raises it again."""
    listed = [asdict(op) for op in getattr(error, "ops", [])]
    message = str(error).split("\n  - ")[0] if listed else str(error)
    return {"error": "hub", "class": type(error).__name__, "message": message, "ops": listed}


def _raised(answer: Mapping[str, Any]) -> errors.HubError:
    if answer["ops"]:
        return errors.UnsupportedOps(answer["message"], [errors.UnsupportedOp(**op) for op in answer["ops"]])
    kind: type[errors.HubError] = getattr(errors, answer["class"])
    return kind(answer["message"])


def _remove(folder: Path, owner: int) -> None:
    """Remove `folder`, but not from a fork of the process that owns it."""
    if os.getpid() == owner:
        shutil.rmtree(folder, ignore_errors=True)


class Server:
    """One process for all models of a runtime, so that a small one takes milliseconds.

    It starts with the first request, and again after it died; `generation` then is another, and
    what was opened before is gone. It ends with this process, or when nobody has used it for a while.
    """

    def __init__(self, start: Callable[[], Process]) -> None:
        self._start = start
        self._process: Process | None = None
        self._owner = 0
        self._users = 0
        self._idle: threading.Timer | None = None
        self.lock = threading.RLock()
        self.generation = 0

    def process(self) -> Process:
        """The running process; a new one if there is none. Hold `lock` while using it."""
        if self._process is not None and self._owner != os.getpid():
            self._process = None  # this is a fork: the process is its parent's
        if self._process is not None and not self._process.alive:
            self.stop()
        if self._process is None:
            self._process = self._start()
            self._owner = os.getpid()
            self.generation += 1
            atexit.unregister(self.stop)
            atexit.register(self.stop)
        return self._process

    @property
    def running(self) -> bool:
        """Whether there is a process of ours that can answer."""
        return self._process is not None and self._owner == os.getpid() and self._process.alive

    def enter(self) -> None:
        """A runner begins to use the server."""
        with self.lock:
            self._users += 1
            if self._idle is not None:
                self._idle.cancel()
                self._idle = None

    def leave(self) -> None:
        """A runner has ended. After the last one, the process waits a while for the next."""
        with self.lock:
            self._users -= 1
            if not self._users and self._process is not None:
                self._idle = threading.Timer(_IDLE, self._stop_unused)
                self._idle.daemon = True
                self._idle.start()

    def stop(self) -> None:
        """End the process. The next request starts a new one."""
        with self.lock:
            if self._process is not None and self._owner == os.getpid():
                self._process.close()
            self._process = None

    def _stop_unused(self) -> None:
        with self.lock:
            if not self._users:
                self.stop()
