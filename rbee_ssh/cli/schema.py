"""The file behind --json-schema, read and checked before anything is sent anywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rbee_ssh.errors import UsageInvalid
from rbee_ssh.wording import quoted

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
