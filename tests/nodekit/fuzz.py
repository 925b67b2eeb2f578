"""How many examples a test of hypothesis tries."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import hypothesis

# RBEE_FUZZ_EXAMPLES=20 tries twenty times as many of all, new ones each time: for a night, not for every run.
# That one tries the same each time, so that it fails for a change of the code and not by chance.
TIMES = int(os.environ.get("RBEE_FUZZ_EXAMPLES") or 1)
_DEFAULT = 100


def profile() -> None:
    """What holds for every test. How long an example takes is the machine's affair: cores may be busy."""
    hypothesis.settings.register_profile(
        "rbee",
        deadline=None,
        derandomize=TIMES == 1,
        max_examples=_DEFAULT * TIMES,
        suppress_health_check=[hypothesis.HealthCheck.too_slow],
        print_blob=True,
    )
    hypothesis.settings.load_profile("rbee")


def examples(count: int) -> Callable[[Any], Any]:
    """Of a test whose examples take long: so many, times RBEE_FUZZ_EXAMPLES."""
    return hypothesis.settings(max_examples=count * TIMES)
