"""A program typed at through a pseudo-terminal."""

import fcntl
import os
import pty
import resource
import select
import signal
import struct
import termios
import time
import uuid

import marked

# So many lines that nothing scrolls: how far a program scrolls may depend on how it batches keys.
COLUMNS, LINES = 100, 130


class Silent(Exception):
    """What was waited for never came; says what there is instead."""


class Terminal:
    """A program in a session of its own with a terminal of its own. What it writes is in `seen`; `show` may be
    given to pass it on to something that understands terminals."""

    def __init__(self, command, env, cwd, show=None):
        self.mark, self.before = uuid.uuid4().hex, marked.shared_files()
        self.seen, self.show = b"", show or (lambda data: None)
        pid, self.fd = pty.fork()
        if pid == 0:
            try:
                resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
                # A shell starts background jobs with it ignored.
                signal.signal(signal.SIGINT, signal.SIG_DFL)
                os.chdir(cwd)
                os.execvpe(str(command[0]), [str(word) for word in command], {**os.environ, **env, marked.VARIABLE: self.mark})
            finally:
                os._exit(127)
        self.pid = pid
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, COLUMNS, 0, 0))

    def send(self, data):
        while data:
            data = data[os.write(self.fd, data):]

    def pump(self, seconds):
        """Takes what comes within that time, and returns after the first of it; False when nothing came."""
        if not select.select([self.fd], [], [], max(seconds, 0))[0]:
            return False
        try:
            data = os.read(self.fd, 65536)
        except OSError:
            # So the end looks, once nobody has the terminal open.
            data = b""
        if not data:
            time.sleep(max(min(seconds, 0.01), 0))
            return False
        self.seen += data
        self.show(data)
        return True

    def until(self, good, timeout, quiet=0.0):
        """Waits until good() and, then, for `quiet` seconds in which nothing comes and it stays so."""
        deadline, last = time.monotonic() + timeout, time.monotonic()
        while True:
            now = time.monotonic()
            if good() and now - last >= quiet:
                return
            if now > deadline:
                raise Silent(f"no answer in {timeout:.0f} s")
            if self.pump(min(deadline - now, max(quiet, 0.02))):
                last = time.monotonic()

    def end(self, timeout):
        """Waits for the end; gives the exit status and what is left behind."""
        deadline = time.monotonic() + timeout
        while True:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                break
            if time.monotonic() > deadline:
                os.killpg(self.pid, signal.SIGKILL)
                os.waitpid(self.pid, 0)
                self.pid = None
                return f"no end after {timeout:.0f} s", []
            self.pump(0.02)
        self.pid = None
        while self.pump(0):
            pass
        return os.waitstatus_to_exitcode(status), marked.leftovers(self.mark, self.before)

    def close(self):
        """Ends it, if it still runs."""
        if self.pid is not None:
            os.killpg(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
            self.pid = None
        if self.fd is not None:
            os.close(self.fd)
            self.fd = None
