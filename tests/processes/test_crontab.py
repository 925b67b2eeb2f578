"""Our line in a crontab, read by the shell that cron hands it to."""

from __future__ import annotations

import os
import subprocess

from hypothesis import given
from hypothesis import strategies as st
from unit.cli.cron.test_crontab import SOME_WORD, cron_hands_over

from nodekit.fuzz import examples
from rbee_ssh.cli.cron import crontab


@given(words=st.lists(SOME_WORD, max_size=4), doubles=st.booleans())
@examples(40)
def test_every_word_reaches_the_program_through_a_real_shell(words: list[str], doubles: bool) -> None:
    line = crontab.line("* * * * *", ["/usr/bin/printf", r"%s\0", "-", *words], "/dev/stdout")
    command = cron_hands_over(line, doubles=doubles)
    done = subprocess.run(["sh", "-c", command], capture_output=True, check=True)
    assert done.stdout == b"".join(os.fsencode(word) + b"\0" for word in ["-", *words])
