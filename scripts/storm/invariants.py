"""What must hold on the nodes and the control machines, looked at from beside: not through rbee."""

from __future__ import annotations

import json
from collections import Counter

from nodekit import Control, LabNode

# id, match, whether its engine lives, whether it is being stopped; then every engine with the id it carries.
LOOK = r"""
for D in ~/.local/state/rbee/*/workers/*/; do
    [ -e "$D/match" ] || continue
    read -r PID START <"$D/pid" 2>/dev/null || PID=
    NOW=$(cut -d' ' -f22 "/proc/$PID/stat" 2>/dev/null)
    LIVES=no; [ -z "$PID" ] || [ "$NOW" != "$START" ] || LIVES=yes
    STOPS=no; [ ! -e "$D/stopping" ] || STOPS=yes
    printf 'worker %s %s %s %s\n' "$(basename "$D")" "$(cat "$D/match")" "$LIVES" "$STOPS"
done
for P in /proc/[0-9]*; do
    ID=$(tr '\0' '\n' <"$P/environ" 2>/dev/null | sed -n 's/^RBEE_WORKER=//p')
    [ -z "$ID" ] || printf 'engine %s %s\n' "${P#/proc/}" "$ID"
done
cd ~/.local/state/rbee && ls -d */lock */claim */workers/.* /tmp/rbee-*/* 2>/dev/null |
    grep -v '/\.\.*$' | sed 's/^/left /'
true
"""


def look(node: LabNode) -> list[list[str]]:
    """The lines of LOOK, in words; none while the node is down."""
    done = node.exec_local(LOOK, check=False)
    return [line.split() for line in done.stdout.splitlines()]


def twice(seen: list[list[str]]) -> set[str]:
    """Matches with more than one worker that lives and is not being stopped."""
    live = Counter(words[2] for words in seen if words[0] == "worker" and words[3:] == ["yes", "no"])
    return {match for match, count in live.items() if count > 1}


def strays(seen: list[list[str]]) -> set[str]:
    """Engines whose worker has no directory."""
    known = {words[1] for words in seen if words[0] == "worker"}
    return {f"{words[1]} of {words[2]}" for words in seen if words[0] == "engine" and words[2] not in known}


def remains(seen: list[list[str]]) -> list[str]:
    """What is there and should not be, when everything was stopped."""
    return [
        " ".join(words)
        for words in seen
        if words[0] in ("engine", "left") or (words[0] == "worker" and words[3] == "yes")
    ]


def registry_fault(control: Control) -> str | None:
    """Why a registry cannot be loaded, or what was set aside."""
    directory = control.home / ".local/state/rbee"
    if aside := sorted(path.name for path in directory.glob("registry.corrupt*")):
        return f"set aside: {aside}"
    path = directory / "registry.json"
    if path.exists():
        try:
            json.loads(path.read_text())
        except ValueError as error:
            return str(error)
    return None


def left_here(control: Control) -> list[str]:
    """Temporary files of a control machine."""
    return [str(path) for path in (control.home / ".local/state/rbee").glob("*.tmp")]
