"""GPUs as their vendors' tools list them."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from rbee_ssh.node.untrusted_text import clean, integer

MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU. `index` counts within its vendor; memory is None where it is not told."""

    index: int
    name: str
    vendor: str  # "nvidia", "amd", "apple"
    backend: str  # the backend made for it: "cuda", "rocm", "metal"
    memory_total_bytes: int | None
    memory_free_bytes: int | None
    driver: str | None = None


def parse_nvidia(lines: Iterable[str]) -> tuple[Gpu, ...]:
    """CSV of nvidia-smi: index, name, total and free memory, driver version; no header, no units.

    Memory is in MiB, "[N/A]" on a machine whose GPU shares the RAM.
    """
    found: list[Gpu] = []
    for line in lines:
        fields = [clean(field, 200) for field in line.split(",")]
        if len(fields) < 5:
            continue
        index, name = integer(fields[0]), ", ".join(fields[1:-3])
        total, free, driver = integer(fields[-3]), integer(fields[-2]), fields[-1]
        if index is None or not name or index > 1023:
            continue
        found.append(Gpu(index, name, "nvidia", "cuda", _mib(total), _mib(free), _known(driver)))
    return tuple(found)


def parse_rocm(text: str) -> tuple[Gpu, ...]:
    """Output of `rocm-smi --showproductname --showmeminfo vram --showdriverversion` with --json or --csv.

    The names of the fields have changed in case between releases; warnings can stand before the data.
    """
    cards = _rocm_json(text) or _rocm_csv(text)
    system = _lower(cards.get("system", {}))
    found: list[Gpu] = []
    for card in sorted(cards, key=lambda name: (integer(name[4:]) or 0, name)):
        if not re.fullmatch(r"card[0-9]{1,4}", card):
            continue
        fields = _lower(cards[card])
        name = next(
            (
                fields[key]
                for key in ("card series", "device name", "card model")
                if _known(fields.get(key)) and not fields[key].startswith("0x")
            ),
            "AMD GPU",
        )
        total, used = (
            integer(fields.get("vram total memory (b)")),
            integer(fields.get("vram total used memory (b)")),
        )
        free = max(total - used, 0) if total is not None and used is not None else None
        driver = _known(fields.get("driver version")) or _known(system.get("driver version"))
        found.append(Gpu(len(found), name, "amd", "rocm", total, free, driver))
    return tuple(found)


def apple(name: str, ram_total: int | None, ram_free: int | None) -> Gpu:
    """The GPU of an Apple chip: it computes in the machine's own memory."""
    return Gpu(0, name, "apple", "metal", ram_total, ram_free)


def _rocm_json(text: str) -> dict[str, dict[str, Any]]:
    start = text.find("{")
    if start < 0:
        return {}
    try:
        data, _ = json.JSONDecoder().raw_decode(text[start:])
    except (ValueError, RecursionError):
        return {}
    return {card: fields for card, fields in data.items() if isinstance(fields, dict)}


def _rocm_csv(text: str) -> dict[str, dict[str, Any]]:
    lines = [line for line in text.splitlines() if "," in line]
    start = next((i for i, line in enumerate(lines) if line.lower().startswith("device,")), None)
    if start is None:
        return {}
    try:
        rows = list(csv.reader(lines[start:]))
    except csv.Error:
        return {}
    return {row[0].lower(): dict(zip(rows[0], row, strict=False)) for row in rows[1:] if row}


def _lower(fields: Mapping[str, Any]) -> dict[str, str]:
    return {str(key).lower().strip(): clean(str(value), 200) for key, value in fields.items()}


def _known(text: str | None) -> str | None:
    """None for the ways in which these tools say that they do not know."""
    if (
        text is None
        or not text
        or text.lower().strip("[]") in ("n/a", "unknown", "not supported", "unknown error")
    ):
        return None
    return text


def _mib(value: int | None) -> int | None:
    return None if value is None else value * MIB
