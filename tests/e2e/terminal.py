"""A command of the binary on a terminal."""

import fcntl
import os
import pty
import re
import struct
import subprocess
import termios
from contextlib import suppress

from penstock import BINARY, CLEAN_ENV, wait_until


class Terminal:
    """Use it as a context manager. `shown` is all that the command wrote there by the last look."""

    def __init__(self, folder, url, *words, columns=80, rows=24, env=None):
        self._master, self._slave = pty.openpty()
        os.set_blocking(self._master, False)
        self.resize(columns, rows)
        self.shown = ""
        environment = CLEAN_ENV | {"PENSTOCK_URL": url, "TERM": "xterm"} | (env or {})
        self.process = subprocess.Popen(
            [BINARY, *words],
            cwd=folder,
            env=environment,
            stdin=self._slave,
            stdout=self._slave,
            stderr=self._slave,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # so that Ctrl-C and new sizes are signals
        )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self._slave)
        os.close(self._master)

    def resize(self, columns, rows):
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def type(self, keys):
        os.write(self._master, keys.encode())

    def read(self):
        with suppress(BlockingIOError):
            self.shown += os.read(self._master, 1 << 20).decode()
        return self.shown

    def until(self, pattern):
        """Waits until what was written since the last such wait has it."""
        begin = len(self.shown)
        wait_until(lambda: re.search(pattern, self.read()[begin:]), f"the terminal shows {pattern}", process=self.process)

    def ended(self):
        """How the command ended."""
        code = self.process.wait(20)
        self.read()
        return code

    def is_as_shells_like_it(self):
        flags = termios.tcgetattr(self._slave)[3]
        return bool(flags & termios.ICANON) and bool(flags & termios.ECHO)
