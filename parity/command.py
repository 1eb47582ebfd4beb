"""A command of the user's that says whether a model is right."""

from __future__ import annotations

import shlex
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from hub.errors import UsageError
from parity.cut import Part

__all__ = ["Command"]


class Command:
    """Runs the command on parts; `said` is the end of what it wrote when it last failed, `text` the command."""

    def __init__(self, words: Sequence[str] | str, timeout: float) -> None:
        self.words = shlex.split(words) if isinstance(words, str) else list(words)
        if not self.words:
            raise UsageError("--check: the command is empty")
        self.text = shlex.join(self.words)
        self.timeout = timeout
        self.said = ""
        if not any("{model}" in word or "{folder}" in word for word in self.words):
            self.words.append("{folder}")

    def fails(self, part: Part) -> bool:
        """Whether it ends with another status than 0, or not in time.

        Raises:
            UsageError: there is no such command.
        """
        with tempfile.TemporaryDirectory(prefix="hub-") as name:
            model = part.save(Path(name))
            words = [word.replace("{model}", str(model)).replace("{folder}", name) for word in self.words]
            try:
                done = subprocess.run(words, capture_output=True, text=True, timeout=self.timeout, check=False)
            except OSError as error:
                raise UsageError(f"--check: {words[0]} cannot be run: {error.strerror or error}") from error
            except subprocess.TimeoutExpired:
                self.said = f"it took more than {self.timeout:.0f} seconds"
                return True
        if done.returncode:
            lines = [line.strip() for line in (done.stdout + done.stderr).splitlines() if line.strip()]
            self.said = " | ".join(lines[-3:])[-400:] or f"it ended with status {done.returncode}"
        return done.returncode != 0
