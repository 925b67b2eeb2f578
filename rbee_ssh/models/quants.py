"""Which model of a repository a reference means: quants, split models, near names. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches

from rbee_ssh.errors import ModelAmbiguous, ModelFault, ModelNotFound
from rbee_ssh.models.reference import HubRef
from rbee_ssh.models.store import SUFFIX, Part, part_of
from rbee_ssh.ssh.quote import quote
from rbee_ssh.wording import listed, quoted

# Which quant is taken when none is named: the first of these that the repository has.
RULE = ("Q4_K_M", "Q5_K_M", "Q4_0", "Q5_0", "Q8_0", "F16")

# As repositories write them: Q4_K_M, IQ2_XXS, TQ1_0, UD-Q4_K_XL, MXFP4_MOE, BF16.
_QUANT = re.compile(
    r"(?<![A-Z0-9])((?:UD-)?(?:I?Q[0-9]|TQ[0-9]|MXFP[0-9])(?:_[A-Z0-9]+)*|BF16|F16|FP16|F32)(?![A-Z0-9])",
    re.IGNORECASE,
)
# Parts of a model that no server takes for the model: projectors of images, importance matrices.
_BESIDE = re.compile(r"(^|[-_.])(mmproj|imatrix)([-_.]|$)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class HubFile:
    """A file as the hub tells it: path in the repository, bytes, SHA-256 (of LFS files only)."""

    path: str
    size: int
    sha256: str | None = None


@dataclass(frozen=True, slots=True)
class HubModel:
    """One model of a repository: its one file, or all its parts in order."""

    files: tuple[HubFile, ...]
    quant: str | None  # upper case

    @property
    def path(self) -> str:
        return self.files[0].path

    @property
    def size(self) -> int:
        return sum(file.size for file in self.files)


def quant_of(path: str) -> str | None:
    """The quant that a file's name tells, else its directory's; in upper case."""
    for part in reversed(path.split("/")):
        part = part[: -len(SUFFIX)] if part.lower().endswith(SUFFIX) else part
        if found := _QUANT.findall(part):
            return str(found[-1]).upper().replace("FP16", "F16")
    return None


def choose(ref: HubRef, files: Iterable[HubFile]) -> HubModel:
    """The model that `ref` means.

    Raises:
        ModelNotFound: the repository has no such file or quant; near names are told.
        ModelAmbiguous: several models fit, and the rule does not decide.
    """
    every = {file.path: file for file in files if file.path.lower().endswith(SUFFIX)}
    if ref.path is not None:
        return _named(ref, ref.path, every)
    found = _models(ref, {p: f for p, f in every.items() if not _BESIDE.search(p.rpartition("/")[2])})
    if not found:
        raise ModelNotFound(
            f"{ref.display}: the repository has no GGUF file",
            hint=f"look for one whose name ends in -GGUF: https://huggingface.co/models?search={ref.repo}",
            details={"reference": ref.display},
        )
    if ref.quant is not None:
        wanted = ref.quant.upper()
        fitting = [one for one in found if one.quant == wanted] or [
            one for one in found if one.quant and one.quant.removeprefix("UD-") == wanted
        ]
        if not fitting:
            raise _no_quant(ref, ref.quant, found)
    else:
        fitting = found
        if len(found) > 1:
            ruled = ([one for one in found if one.quant == quant] for quant in RULE)
            fitting = next((models for models in ruled if models), found)
    if len(fitting) > 1:
        raise _ambiguous(ref, fitting)
    return fitting[0]


def _named(ref: HubRef, path: str, every: Mapping[str, HubFile]) -> HubModel:
    if path not in every:
        near = get_close_matches(path, every, n=5, cutoff=0.4)
        raise ModelNotFound(
            f"{ref.display}: the repository has no such file"
            + (f"; near are {listed(map(quoted, near))}" if near else ""),
            hint=f"rbee models pull {quote(f'hf:{ref.repository}/{near[0]}')}"
            if near
            else f"see https://huggingface.co/{ref.repository}/tree/main",
            details={"reference": ref.display, "near": near},
        )
    part = part_of(path)
    if part is None:
        return HubModel((every[path],), quant_of(path))
    return _whole(ref, part, every)


def _models(ref: HubRef, every: Mapping[str, HubFile]) -> list[HubModel]:
    models = []
    for path, file in sorted(every.items()):
        part = part_of(path)
        if part is None:
            models.append(HubModel((file,), quant_of(path)))
        elif part.number == 1 and set(part.names()) <= every.keys():
            models.append(_whole(ref, part, every))
    return models


def _whole(ref: HubRef, part: Part, every: Mapping[str, HubFile]) -> HubModel:
    """The model of which `part` is one."""
    missing = [name for name in part.names() if name not in every]
    if missing:
        raise ModelNotFound(
            f"{ref.display}: the repository lacks {listed(missing, 5)} of the model's {part.count} parts",
            details={"reference": ref.display, "missing": missing},
        )
    return HubModel(tuple(every[name] for name in part.names()), quant_of(part.stem))


def _no_quant(ref: HubRef, quant: str, found: list[HubModel]) -> ModelFault:
    quants = sorted({one.quant for one in found if one.quant})
    near = get_close_matches(quant.upper(), quants, n=1, cutoff=0.0) or quants
    return ModelNotFound(
        f"{ref.display}: the repository has no quant {quant}; it has "
        f"{listed(quants) or 'none that is named'}",
        hint=f"rbee models pull hf:{ref.repository}:{near[0]}" if near else None,
        details={"reference": ref.display, "quants": quants},
    )


def _ambiguous(ref: HubRef, found: list[HubModel]) -> ModelFault:
    width = max(len(one.path) for one in found)
    lines = "\n".join(f"  {one.path:<{width}}  {one.size / 2**20:>9.1f} MiB" for one in found[:40])
    more = f"\n  and {len(found) - 40} more" if len(found) > 40 else ""
    return ModelAmbiguous(
        f"{ref.display} may be any of {len(found)} models:\n{lines}{more}",
        hint=f"rbee models pull {quote(f'hf:{ref.repository}/{found[0].path}')}   # or another of them",
        details={
            "reference": ref.display,
            "models": [{"path": one.path, "quant": one.quant, "size": one.size} for one in found],
        },
    )
