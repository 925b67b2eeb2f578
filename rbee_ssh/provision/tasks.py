"""The tasks of `rbee nodes setup`, in a Fabric connection, or in invoke's Context on localhost."""

from __future__ import annotations

from pathlib import Path

from rbee_ssh.errors import SetupFailed
from rbee_ssh.provision.link import Link, put, run_script
from rbee_ssh.provision.plan import ArchivePlan, PythonPlan
from rbee_ssh.provision.problems import failed

_HERE = Path(__file__).parent


def install_package(link: Link, plan: PythonPlan) -> bool:
    """A Python environment, the package in it, and a look whether it runs. False: all of it was there.

    Raises:
        SetupFailed: a step failed.
        ConnectionLost, ResponseInvalid: the way to the node.
    """
    package = plan.package
    args = [package.name, package.wanted, plan.index or "", package.companion, plan.pattern, package.trial]
    return _run(link, "python.sh", [*args, plan.cmake_args or ""])


def install_archive(link: Link, plan: ArchivePlan, fetcher: str) -> bool:
    """An archive unpacked, and a look whether its llama-server runs. False: it was there.

    Args:
        fetcher: the source of node_downloader.py, for a node that has Python and nothing else to fetch with.

    Raises:
        SetupFailed, ConnectionLost, ResponseInvalid: as `install_package`.
    """
    archive = plan.archive
    file, ours = "", False
    if archive.path is not None:
        file = str(archive.path)
        if not link.local:
            # Asked first: it may be there, and an upload can be long.
            if not _run(link, "archive.sh", _words(plan, "", False, fetcher)):
                return False
            file, ours = _upload(link, plan.directory, archive.path), True
    return _run(link, "archive.sh", _words(plan, file, ours, fetcher))


def _words(plan: ArchivePlan, file: str, ours: bool, fetcher: str) -> list[str]:
    source = (_HERE / "unpack.py").read_text(encoding="utf-8")
    archive = plan.archive
    words = [plan.directory, archive.url or "", file, "yes" if ours else "", archive.sha256 or ""]
    return [*words, plan.pattern, source, fetcher]


def _upload(link: Link, directory: str, path: Path) -> str:
    # Always the same name: what an interrupted upload leaves is written over by the next one.
    remote = f".local/share/rbee/engines/.{directory}.sent"
    link.sink.tell(f"sending {path.name} ({path.stat().st_size / 2**20:.0f} MiB)")
    try:
        put(link, path, remote)
    except OSError as error:
        raise SetupFailed(
            f"{link.node}: sending {path.name} failed: {error}",
            hint="give --archive a URL, which the node fetches itself",
            details={"node": link.node, "step": "sending the archive"},
        ) from error
    return remote


def _run(link: Link, name: str, args: list[str]) -> bool:
    """True: something was done, or has to be; False: all of it was there."""
    body = "".join((_HERE / part).read_text(encoding="utf-8") for part in ("steps.sh", name))
    output = run_script(link, body, args)
    done = output.value("done")
    if output.status == 0 and done:
        return done != "already"
    raise failed(link, output, list(link.sink.last))
