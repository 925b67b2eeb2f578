"""Runs on the node: unpacks a .tar.gz or .zip into an empty directory, and nothing outside of it.

python3 -I -c SOURCE ARCHIVE DIRECTORY, any Python from 3.7. Links are made last and only to what lies inside;
devices, setuid bits and owners are never taken over.
"""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import stat
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from typing import IO

LARGEST = 32 << 30  # bytes unpacked: more than any build of llama.cpp, less than a zip bomb
MOST = 50_000  # members, of which none needs to have a size
DEEPEST = 64  # directories, one in the other
LONGEST = 4096  # bytes of a link's target: a path
TOO_LARGE = "the archive unpacks to more than {} bytes"
MEMORY = 512 << 20  # bytes: a tar's header, or an xz's dictionary, can say that it has gigabytes


def main(archive: str, directory: str) -> None:
    root = os.path.realpath(directory)
    links = []
    total = 0
    for number, (name, kind, mode, size, link, source) in enumerate(members(archive)):
        total += size
        if size < 0:
            sys.exit("the archive has a file that is shorter than nothing: " + ascii(name)[:200])
        if total > LARGEST:
            sys.exit(TOO_LARGE.format(LARGEST))
        if number >= MOST:
            sys.exit(f"the archive has more than {MOST} files")
        if name.count("/") > DEEPEST:
            sys.exit("the archive has a directory that is too deep: " + ascii(name)[:200])
        place = os.path.normpath(os.path.join(root, name))
        if place == root and kind == "directory":
            continue
        if os.path.isabs(name) or not inside(root, place):
            sys.exit("the archive has a name that leads outside: " + ascii(name)[:200])
        if kind == "directory":
            os.makedirs(place, exist_ok=True)
            continue
        os.makedirs(os.path.dirname(place), exist_ok=True)
        if kind == "link":
            links.append((place, link, name))
        elif kind == "file" and source is not None:
            with source, open(place, "xb") as target:
                shutil.copyfileobj(source, target, 1 << 20)
            os.chmod(place, 0o755 if mode & 0o100 or os.path.basename(place) == "llama-server" else 0o644)
        else:
            sys.exit("the archive has something that is neither file nor link: " + ascii(name)[:200])
    for place, link, name in links:
        # Where it leads is asked of the text: no link is followed before all of them stand.
        if os.path.isabs(link) or not inside(
            root, os.path.normpath(os.path.join(os.path.dirname(place), link))
        ):
            sys.exit("the archive has a link that leads outside: " + ascii(name)[:200])
        os.symlink(link, place)
    for place, _, name in links:
        if not inside(root, os.path.realpath(place)):
            sys.exit("the archive has a link that leads outside: " + ascii(name)[:200])


def inside(root: str, place: str) -> bool:
    return place.startswith(root + os.sep)


def members(archive: str) -> Iterator[tuple[str, str, int, int, str, IO[bytes] | None]]:
    """(name, kind, mode, size, target of a link, open file) of each; a hard link as the file it names."""
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as zipped:
            for info in zipped.infolist():
                mode = info.external_attr >> 16
                if info.is_dir():
                    yield info.filename, "directory", 0, 0, "", None
                elif stat.S_ISLNK(mode):
                    with zipped.open(info) as opened_link:
                        target = opened_link.read(LONGEST + 1)
                    if len(target) > LONGEST:
                        sys.exit(
                            "the archive has a link that leads to more than a path: "
                            + ascii(info.filename)[:200]
                        )
                    yield info.filename, "link", 0, 0, target.decode("utf-8", "surrogateescape"), None
                else:
                    yield info.filename, "file", mode, info.file_size, "", zipped.open(info)
        return
    with tarfile.open(archive, "r:*") as opened:
        for member in opened:
            if member.isdir():
                yield member.name, "directory", 0, 0, "", None
            elif member.issym():
                yield member.name, "link", 0, 0, member.linkname, None
            elif member.isreg():
                yield member.name, "file", member.mode, member.size, "", opened.extractfile(member)
            elif member.islnk():
                # As a link to that file, told from the archive's top.
                up = os.path.relpath(member.linkname, os.path.dirname(member.name) or ".")
                yield member.name, "link", 0, 0, up, None
            else:
                yield member.name, "other", 0, 0, "", None
        # To the end, where gzip has its checksum.
        after = 0
        for data in iter(lambda: opened.fileobj.read(1 << 20), b""):
            after += len(data)
            if after > LARGEST:
                sys.exit(TOO_LARGE.format(LARGEST))


def bound_memory() -> None:
    """Have the system give us no more than MEMORY. macOS does not keep to it."""
    for kind in (resource.RLIMIT_DATA, resource.RLIMIT_AS):
        with contextlib.suppress(OSError, ValueError):
            hard = resource.getrlimit(kind)[1]
            resource.setrlimit(kind, (MEMORY if hard == resource.RLIM_INFINITY else min(MEMORY, hard), hard))


if __name__ == "__main__":
    bound_memory()
    try:
        main(*sys.argv[1:3])
    except MemoryError:
        sys.exit("the archive cannot be unpacked: it takes too much memory")
    except Exception as error:  # of four libraries, with no common kind
        sys.exit(f"the archive cannot be unpacked: {error}")
