"""Running a POSIX sh script on a node: one session, one round trip, arguments out of any shell's reach."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from rbee_ssh.errors import ResponseInvalid, SessionLimit, ShellUnusable
from rbee_ssh.ssh.connection import Connection, kept
from rbee_ssh.ssh.lean import asyncssh
from rbee_ssh.ssh.quote import wrap

# More than any script of ours prints; a node that sends more is broken or hostile.
MAX_OUTPUT = 4 * 1024 * 1024
MAX_LINES = 50_000  # of a byte or two each they would take fifty times the memory
MAX_NOISE = 256 * 1024
# sshd refuses a session over MaxSessions; the one in the way is usually about to end.
SESSION_WAITS = (0.1, 0.3, 1.0, 2.0)

log = logging.getLogger("rbee.script")


class Script(str):
    """A script's text, and what the log calls it."""

    def __new__(cls, text: str, name: str) -> Script:
        script = super().__new__(cls, text)
        script.name = name
        return script

    name: str


@dataclass(frozen=True, slots=True)
class ScriptResult:
    """What a script printed after its marker, decoded as UTF-8 with replacement, and its exit status."""

    status: int
    stdout: str
    stderr: str


class RunningScript:
    """A script whose marker came back. Lines are read as they come; a payload goes to its stdin."""

    def __init__(
        self,
        connection: Connection,
        process: asyncssh.SSHClientProcess[bytes],
        rest: bytes,
        errors: asyncio.Task[bytes] | None,
    ) -> None:
        self._connection = connection
        self._process = process
        self._rest = rest
        self._errors = errors
        self._ended = False

    async def read(self) -> bytes:
        """The next piece of output, empty at the end.

        Raises:
            ConnectionLost: the connection broke.
        """
        if self._rest:
            rest, self._rest = self._rest, b""
            return rest
        if self._ended:
            return b""
        try:
            data = await self._process.stdout.read(65536)
        except (asyncssh.Error, OSError) as error:
            raise self._connection.lost(error) from error
        self._ended = not data
        return data

    async def read_errors(self) -> bytes:
        """The next piece of what goes to stderr, empty at the end. For who said `errors`, and reads both.

        Raises:
            ConnectionLost: the connection broke.
        """
        try:
            return await self._process.stderr.read(65536)
        except (asyncssh.Error, OSError) as error:
            raise self._connection.lost(error) from error

    async def lines(self) -> AsyncIterator[str]:
        """The output by lines.

        Raises:
            ConnectionLost: the connection broke.
            ResponseInvalid: more output than any script of ours makes.
        """
        pending = b""
        total = count = 0
        while data := await self.read():
            total += len(data)
            if total > MAX_OUTPUT:
                raise ResponseInvalid(
                    f"node {self._connection.name!r} sent more than {MAX_OUTPUT} bytes to a script's question"
                )
            *complete, pending = (pending + data).split(b"\n")
            count += len(complete)
            if count > MAX_LINES:
                raise ResponseInvalid(
                    f"node {self._connection.name!r} sent more than {MAX_LINES} lines to a script's question"
                )
            for line in complete:
                yield line.decode("utf-8", "replace")
        if pending:
            yield pending.decode("utf-8", "replace")

    async def send(self, data: bytes, *, stall: float | None = None) -> bool:
        """Send a piece of the payload, waiting while the channel is full; False once nobody takes it.

        Args:
            stall: seconds without a byte that got away after which nothing is waited for any more.

        Raises:
            ConnectionLost: the connection broke.
            TimeoutError: nothing moved.
        """
        try:
            self._process.stdin.write(data)
            while True:
                waiting = self._process.channel.get_write_buffer_size()
                try:
                    async with asyncio.timeout(stall):
                        await self._process.stdin.drain()
                    break
                except TimeoutError:
                    if self._process.channel.get_write_buffer_size() >= waiting:
                        raise
        except TimeoutError:
            raise
        except (asyncssh.Error, OSError) as error:
            if self._connection.closed:
                raise self._connection.lost(error) from error
            return False
        return True

    def end_payload(self) -> None:
        """No more payload."""
        with contextlib.suppress(OSError):
            self._process.stdin.write_eof()

    async def finish(self) -> tuple[int, str]:
        """Wait for the end: exit status (128 + n after signal n), and what went to stderr.

        Raises:
            ConnectionLost: the connection broke before the script ended.
        """
        try:
            reading = self._process.stderr.read(MAX_NOISE) if self._errors is None else self._errors
            stderr = await reading
            await self._process.wait_closed()
        except (asyncssh.Error, OSError) as error:
            raise self._connection.lost(error) from error
        status = self._process.returncode
        if status is None:
            raise self._connection.lost()
        return (status if status >= 0 else 128 - status), stderr.decode("utf-8", "replace")


@contextlib.asynccontextmanager
async def running(
    connection: Connection,
    body: str,
    args: Sequence[str] = (),
    *,
    payload: bool = False,
    errors: bool = False,
) -> AsyncIterator[RunningScript]:
    """Start `body` on the node and wait for its marker.

    Args:
        body: POSIX sh, run inside a function with `args` as $1, $2, ….
        payload: whether `send` will follow; else the script's stdin is /dev/null.
        errors: whether `read_errors` will be called; else `finish` has what went to stderr.

    Raises:
        ShellUnusable: the marker did not come: no POSIX sh, nologin, a forced command.
        SessionLimit: the server refuses another session, for longer than we wait.
        ConnectionLost: the connection broke.
    """
    marker = "rbee-" + secrets.token_hex(8)
    text = wrap(body, args, marker, payload=payload)
    async with connection.sessions:
        process = await _session(connection)
        began = time.monotonic()
        told = None if errors else asyncio.ensure_future(_errors(process))
        try:
            # A login shell may have ended by now: what it said, or that there is no marker, tells.
            with contextlib.suppress(OSError):
                process.stdin.write(text.encode("utf-8", "surrogateescape"))
                if not payload:
                    process.stdin.write_eof()
            try:
                async with asyncio.timeout(connection.timeouts.start):
                    rest = await _after_marker(connection, process, b"\n" + marker.encode() + b"\n", told)
            except TimeoutError:
                raise _unusable(connection, "no answer from sh", b"", None) from None
            yield RunningScript(connection, process, rest, told)
        except BaseException:
            process.channel.abort()  # not what is still on its way in either direction
            raise
        finally:
            process.close()
            if told is not None:
                told.cancel()
                await asyncio.wait([told])
            with contextlib.suppress(asyncssh.Error, OSError, TimeoutError):
                async with asyncio.timeout(2):
                    await process.wait_closed()
            # Neither its arguments nor its output: both may hold what is nobody's business.
            log.debug(
                "%s on %s: %.0f ms, %s",
                body.name if isinstance(body, Script) else body.split(None, 1)[0],
                connection.name,
                (time.monotonic() - began) * 1000,
                "cut off" if process.returncode is None else f"exit status {process.returncode}",
            )


async def run(
    connection: Connection,
    body: str,
    args: Sequence[str] = (),
    *,
    timeout: float = 60.0,
    silence: float | None = None,
) -> ScriptResult:
    """Run `body` on the node and give back everything it printed.

    Args:
        silence: of a script that says a line now and then, seconds without one after which nobody is there
            any more: sooner than the keepalive finds out.

    Raises:
        ShellUnusable, SessionLimit, ConnectionLost: as `running`.
        ResponseInvalid: no end within `timeout` seconds, or endless output.
    """
    loop = asyncio.get_running_loop()
    quiet = asyncio.timeout(silence)
    try:
        async with asyncio.timeout(timeout), quiet, running(connection, body, args) as script:
            lines = []
            async for line in script.lines():
                lines.append(line)
                if silence is not None:
                    quiet.reschedule(loop.time() + silence)
            status, stderr = await script.finish()
            return ScriptResult(status, "\n".join(lines), stderr)
    except TimeoutError as error:
        if quiet.expired():
            connection.ssh.abort()  # nobody would hear a goodbye, and it would be waited for
            raise connection.lost(TimeoutError(f"no word for {silence:.0f} s")) from error
        raise ResponseInvalid(
            f"node {connection.name!r}: a script did not end within {timeout:.0f} s",
            hint=f"rbee --verbose nodes status {connection.name}",
        ) from None


async def _session(connection: Connection) -> asyncssh.SSHClientProcess[bytes]:
    for wait in (*SESSION_WAITS, None):
        connection.acknowledge_soon()
        try:
            # None, not an empty tuple: for that asyncssh would take SendEnv and SetEnv of ssh_config.
            opening = connection.ssh.create_process(
                "sh", encoding=None, request_pty=False, send_env=None, env=None
            )
            async with asyncio.timeout(connection.timeouts.start):
                return await kept(opening, lambda late: late.close())
        except TimeoutError:
            raise _unusable(connection, "no answer to a session", b"", None) from None
        except asyncssh.ChannelOpenError as error:
            if connection.closed:
                raise connection.lost(error) from error
            if wait is None:
                raise SessionLimit(
                    f"node {connection.name!r} refuses a session: {error.reason}",
                    hint="raise MaxSessions in the node's sshd_config, or end other sessions of this login",
                ) from error
            await asyncio.sleep(wait)
        except (asyncssh.Error, OSError) as error:
            raise connection.lost(error) from error
    raise AssertionError("unreachable")


async def _errors(process: asyncssh.SSHClientProcess[bytes]) -> bytes:
    """What goes to stderr. What is too much is read, too: else nothing more would come on stdout."""
    told = b""
    with contextlib.suppress(asyncssh.Error, OSError):
        while data := await process.stderr.read(65536):
            told += data[: MAX_NOISE - len(told)]
    return told


async def _after_marker(
    connection: Connection,
    process: asyncssh.SSHClientProcess[bytes],
    marker: bytes,
    errors: asyncio.Task[bytes] | None,
) -> bytes:
    seen = b""
    while True:
        try:
            data = await process.stdout.read(65536)
        except (asyncssh.Error, OSError) as error:
            raise connection.lost(error) from error
        if not data:
            if connection.closed:
                raise connection.lost()
            error_text = await (process.stderr.read(4096) if errors is None else errors)
            await process.wait_closed()
            raise _unusable(connection, "sh did not run", seen + error_text[:4096], process.returncode)
        seen += data
        before, found, rest = seen.partition(marker)
        if found:
            return rest
        if len(before) > MAX_NOISE:
            raise _unusable(connection, "endless output instead of sh", before[:400], None)


def _unusable(connection: Connection, what: str, came: bytes, status: int | None) -> ShellUnusable:
    text = " ".join(came.decode("utf-8", "replace").split())[:200]
    ended = "" if status is None else f" (exit status {status})"
    said = f"; it said: {text}" if text else ""
    return ShellUnusable(
        f"node {connection.name!r}: {what}{ended}{said}",
        hint=f"ssh to {connection.name} by hand and run `sh`: the login needs a shell, not nologin "
        "or a forced command",
        details={"node": connection.name, "output": text, "status": status},
    )
