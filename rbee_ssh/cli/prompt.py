"""Where a prompt comes from: words of the command line, standard input, or both."""

from __future__ import annotations

import os
import select
import stat
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any, BinaryIO

from rbee_ssh.errors import UsageInvalid
from rbee_ssh.wording import quoted

STDIN = "-"
NO_PROMPT = 'rbee infer --model REF "your prompt"'


def compose(words: Sequence[str], option: str | None, read: Callable[[], str], *, terminal: bool) -> str:
    """The prompt.

    Standard input is read only when there is no other prompt, or when "-" asks for it. It is not read beside
    a prompt on the chance that something comes: in a loop, under ssh or in a service it may never end.

    Args:
        words: the arguments; one prompt, or several with a "-" among them, which become paragraphs.
        option: what --prompt says.
        read: reads standard input to its end.
        terminal: standard input is a terminal, or is not there.

    Raises:
        UsageInvalid: no prompt, an empty one, or two.
    """
    if option is not None and words and list(words) != [STDIN]:
        raise UsageInvalid("a prompt was given twice: as an argument and with --prompt")
    parts = [option, *words] if option is not None else list(words)
    if len(parts) > 1 and STDIN not in words:
        raise UsageInvalid(
            f"expected one prompt, got {len(parts)} arguments; put the prompt in quotes", hint=NO_PROMPT
        )
    if parts.count(STDIN) > 1:
        raise UsageInvalid('"-" stands for standard input, and can be given once')
    if not parts:
        if terminal:
            raise UsageInvalid("no prompt was given, and standard input is a terminal", hint=NO_PROMPT)
        parts = [STDIN]
    prompt = "\n\n".join(read() if part == STDIN and part is not option else part for part in parts)
    if not prompt:
        raise UsageInvalid("the prompt is empty", hint=NO_PROMPT)
    return checked(prompt, "the prompt")


def from_stdin(stream: BinaryIO | None) -> str:
    """All of standard input, without the one line end that `echo` and editors put last.

    Raises:
        UsageInvalid: it cannot be read, or is not UTF-8.
    """
    if stream is None:
        raise UsageInvalid("no prompt was given, and standard input is closed", hint=NO_PROMPT)
    try:
        data = stream.read()
    except OSError as error:
        raise UsageInvalid(f"standard input cannot be read: {error.strerror}", hint=NO_PROMPT) from error
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise UsageInvalid(
            f"standard input is not UTF-8: byte 0x{data[error.start]:02x} at offset {error.start}",
            hint="iconv -f LATIN1 -t UTF-8 FILE | rbee infer …",
            details={"offset": error.start},
        ) from error
    if text.endswith("\n"):
        text = text.removesuffix("\n").removesuffix("\r")
    return text


def checked(text: str, what: str) -> str:
    """`text`, unless it holds bytes that are not UTF-8, which Python shows as halves of surrogate pairs.

    Raises:
        UsageInvalid: it does.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise UsageInvalid(f"{what} is not UTF-8, at character {error.start + 1}") from error
    return text


def waits(stream: IO[Any] | None) -> bool:
    """Whether a pipe already holds something that nobody is going to read."""
    try:
        if stream is None or not stat.S_ISFIFO(os.fstat(stream.fileno()).st_mode):
            return False
    except (OSError, ValueError):
        return False
    poll = select.poll()
    poll.register(stream, select.POLLIN)
    return any(event & select.POLLIN for _, event in poll.poll(0))


LARGEST = 1 << 20  # bytes


def read_schema(path: Path) -> dict[str, Any]:
    """The JSON schema in `path`.

    Raises:
        UsageInvalid: it cannot be read, is larger than 1 MiB, is not JSON, or is no JSON object.
    """
    import json

    name = quoted(str(path))
    try:
        with path.open("rb") as file:
            data = file.read(LARGEST + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise UsageInvalid(f"--json-schema {name} cannot be read: {reason}") from error
    if len(data) > LARGEST:
        raise UsageInvalid(f"--json-schema {name} is larger than {LARGEST // 1024} KiB")
    try:
        schema = json.loads(data.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise UsageInvalid(f"--json-schema {name} is not UTF-8, at byte {error.start}") from error
    except json.JSONDecodeError as error:
        raise UsageInvalid(
            f"--json-schema {name} is not JSON: {error.msg}, line {error.lineno}, column {error.colno}",
            details={"line": error.lineno, "column": error.colno},
        ) from error
    except (RecursionError, ValueError) as error:
        raise UsageInvalid(f"--json-schema {name} is not JSON that can be read: {error}") from error
    if not isinstance(schema, dict):
        raise UsageInvalid(f"--json-schema {name} is not a JSON object")
    return schema
