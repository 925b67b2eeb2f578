"""What went wrong on the node, as an error that says what to type next. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rbee_ssh.engines.exit_status import in_words
from rbee_ssh.errors import ChecksumMismatch, RbeeError, SetupFailed
from rbee_ssh.ssh.quote import quote
from rbee_ssh.wording import quoted

if TYPE_CHECKING:
    from rbee_ssh.provision.link import Link, ScriptOutput

# A name in /etc/os-release (ID, or one of ID_LIKE) → what makes `python3 -m venv` work there.
_PACKAGES = {
    "debian": "apt-get install python3-venv",
    "ubuntu": "apt-get install python3-venv",
    "fedora": "dnf install python3",
    "rhel": "dnf install python3",
    "suse": "zypper install python3",
    "opensuse": "zypper install python3",
    "arch": "pacman -S python",
    "alpine": "apk add python3 py3-pip",
}
_SAYS = {
    "no-venv": "its Python cannot make environments",
    "old-python": "its Python is too old",
    "no-python": "it has no Python",
    "no-pip": "its environment has no pip",
    "no-fetcher": "it has nothing to fetch a URL with",
    "no-unzip": "it has nothing to unpack a zip file with",
    "no-server": "the archive holds no llama-server",
    "no-device": "the engine runs, but sees no device of the kind that was asked for",
    "broken": "the engine does not run",
    "home": "its ~/.local/share/rbee cannot be written",
    "fetch": "the archive could not be fetched",
    "unpack": "the archive could not be unpacked",
    "venv": "the Python environment could not be made",
    "install": "pip could not install it",
}

_LINES = 6


def failed(link: Link, output: ScriptOutput, last: Sequence[str]) -> RbeeError:
    """The error for a script that gave up, or ended without a word.

    Args:
        last: the last lines that it printed.
    """
    node = link.node
    problem, step = output.value("problem"), output.value("step")
    details = {"node": node, "step": step or None, "status": output.status, "output": list(last)}
    if problem == "sha256":
        return ChecksumMismatch(
            f"{node}: the archive has SHA-256 {output.value('sha256')[:64]}, not the one that was given; "
            "it was removed",
            hint="compare the checksum with the one its publisher shows",
            details=details,
        )
    what = _SAYS.get(problem) or f"it ended early: {in_words(output.status)}"
    if problem == "broken" and output.value("status").isdecimal():
        what += f" ({in_words(int(output.value('status')[:3]))})"
    at = f"{step}: " if step else ""
    return SetupFailed(
        f"{node}: {at}{what}{_repeated(last)}", hint=_next(link, problem, output), details=details
    )


def _next(link: Link, problem: str, output: ScriptOutput) -> str:
    node = link.node
    again = f"rbee nodes setup {quote(node)}"
    if problem in ("no-venv", "old-python", "no-python"):
        package = next(
            (_PACKAGES[name] for name in output.value("system").split() if name in _PACKAGES), None
        )
        if package is None:
            return f"install python3 with its venv module on {node}, or uv, then: {again}"
        install = f"ssh -t {link.ssh} {quote(f'sudo {package}')}" if link.ssh else f"sudo {package}"
        return f"{install} && {again}   # without root: install uv there"
    match problem:
        case "no-device":
            return f"name a build for it with --index-url or --archive, or: {again} --backend cpu"
        case "broken" | "install":
            return f"another build (--index-url, --archive) may do; after a fix: {again}"
        case "no-fetcher" | "fetch":
            return f"download it here, then: {again} --archive FILE"
        case "home":
            return f"look at the disk and the permissions of ~/.local/share on {node}, then: {again}"
        case _:
            return f"{again}   # goes on where it stopped"


def _repeated(last: Sequence[str]) -> str:
    """The lines that an error repeats: pip warns of each of its tries before it says what is wrong."""
    telling = [line for line in last if not line.lstrip().startswith("WARNING")] or last
    return "".join(f"\n{line}" for line in telling[-_LINES:])


def of_recipe(node: str, recipe: str, message: str, last: Sequence[str]) -> SetupFailed:
    """The error for a task of the user's own."""
    return SetupFailed(
        f"{node}: the task {quoted(recipe, 200)} failed: {message}{_repeated(last)}",
        hint=f"look at that file; setup of {node} in the inventory names it",
        details={"node": node, "step": recipe, "output": list(last)},
    )
