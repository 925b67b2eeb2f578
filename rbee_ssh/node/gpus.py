"""GPUs as their vendors' tools list them."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import dropwhile
from typing import Any

from rbee_ssh.node.untrusted_text import clean, integer

MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU. `index` counts within its vendor; memory is None where the tool does not say."""

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
    gpus: list[Gpu] = []
    for line in lines:
        fields = [clean(field, 200) for field in line.split(",")]
        index, name = integer(fields[0]), ", ".join(fields[1:-3])
        if index is not None and index <= 1023 and name:
            gpus.append(
                Gpu(index, name, "nvidia", "cuda", _mib(fields[-3]), _mib(fields[-2]), _stated(fields[-1]))
            )
    return tuple(gpus)


def parse_rocm(text: str) -> tuple[Gpu, ...]:
    """Output of `rocm-smi --showproductname --showmeminfo vram --showdriverversion` with --json or --csv.

    The names of the fields have changed in case between releases; warnings can stand before the data.
    """
    cards = _rocm_json(text) or _rocm_csv(text)
    system = _lower(cards.get("system", {}))
    gpus: list[Gpu] = []
    for card in sorted(cards, key=lambda name: (integer(name[4:]) or 0, name)):
        if not re.fullmatch(r"card[0-9]{1,4}", card):
            continue
        fields = _lower(cards[card])
        names = (_stated(fields.get(key)) for key in ("card series", "device name", "card model"))
        name = next((name for name in names if name and not name.startswith("0x")), "AMD GPU")
        total = integer(fields.get("vram total memory (b)"))
        used = integer(fields.get("vram total used memory (b)"))
        free = max(total - used, 0) if total is not None and used is not None else None
        driver = _stated(fields.get("driver version")) or _stated(system.get("driver version"))
        gpus.append(Gpu(len(gpus), name, "amd", "rocm", total, free, driver))
    return tuple(gpus)


def _rocm_json(text: str) -> dict[str, dict[str, Any]]:
    _, brace, rest = text.partition("{")
    try:
        data, _ = json.JSONDecoder().raw_decode(brace + rest)
    except (ValueError, RecursionError):
        return {}
    return {card: fields for card, fields in data.items() if isinstance(fields, dict)}


def _rocm_csv(text: str) -> dict[str, dict[str, Any]]:
    lines = (line for line in text.splitlines() if "," in line)
    try:
        rows = list(csv.reader(dropwhile(lambda line: not line.lower().startswith("device,"), lines)))
    except csv.Error:
        return {}
    return {row[0].lower(): dict(zip(rows[0], row, strict=False)) for row in rows[1:] if row}


def _lower(fields: Mapping[str, Any]) -> dict[str, str]:
    return {str(key).lower().strip(): clean(str(value), 200) for key, value in fields.items()}


def _stated(text: str | None) -> str | None:
    """None for the words by which these tools say that they do not know."""
    unknown = ("n/a", "unknown", "not supported", "unknown error")
    return None if not text or text.lower().strip("[]") in unknown else text


def _mib(text: str) -> int | None:
    count = integer(text)
    return None if count is None else count * MIB
