"""The TOML under the inventory: what tomllib says, as our own errors."""

from __future__ import annotations

import re
import tomllib
from typing import Any

from rbee_ssh.inventory.faults import Fault, invalid

# tomllib's time grows with the square of a dotted key's parts: an hour for a file of a megabyte.
DOTS = 300


def load_toml(text: str, file: str) -> dict[str, Any]:
    """The text as TOML, whatever it says.

    Args:
        file: how errors call it.

    Raises:
        InventoryInvalid: a syntax error, with its line.
    """
    for number, line in enumerate(text.split("\n"), 1):
        if line.count(".") > DOTS:
            raise invalid(file, [Fault((), f"expected at most {DOTS} dots on a line", number)])
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        place = re.search(r" \(at (?:line ([0-9]+), column [0-9]+|end of document)\)$", str(error))
        what = str(error)[: place.start()] if place else str(error)
        end = text.rstrip("\n").count("\n") + 1
        fault = Fault((), f"not valid TOML: {what}", int(place[1]) if place and place[1] else end)
    except RecursionError:
        fault = Fault((), "expected no nesting hundreds of levels deep")
    except ValueError:
        # Python refuses to read decimal integers of more than 4,300 digits; tomllib lets that through.
        fault = Fault((), "expected no number of thousands of digits")
    raise invalid(file, [fault])
