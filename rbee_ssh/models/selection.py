"""Which stored model a user means: by reference, name, place, or the start of its SHA-256. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence

from rbee_ssh.errors import ModelAmbiguous, ModelNotFound
from rbee_ssh.inventory import Inventory
from rbee_ssh.models.node_store import StoredModel
from rbee_ssh.models.reference import HubRef, LocalFileRef, NodeFileRef, Ref, UrlRef, parse_reference
from rbee_ssh.models.store import safe_name
from rbee_ssh.wording import listed, nearest, quoted, without_secrets

_HEX = re.compile(r"[0-9a-f]{4,64}")


def find(text: str, models: Iterable[StoredModel], inventory: Inventory) -> list[StoredModel]:
    """The stored copies of the one model that `text` names, on whichever nodes they are.

    Args:
        text: a reference as for `pull` or `infer`, a preset, a file's name with or without .gguf, its place
            in the store, or at least 4 hexadecimal digits that its SHA-256 begins with.

    Raises:
        ModelNotFound: none of the nodes has it.
        ModelAmbiguous: several different models are meant so.
        ModelRefInvalid: it is none of these.
    """
    every = list(models)
    found = _matching(text, every, inventory)
    text = without_secrets(text)
    if not found:
        known = sorted({model.name for model in every})
        near = nearest(text.rpartition("/")[2], known)
        question = f"; did you mean {quoted(near)}?" if near else ""
        raise ModelNotFound(
            f"no node that was asked has {quoted(text, 200)} in its store{question}",
            hint="rbee models list",
            details={"reference": text, "known": known[:100]},
        )
    contents = {_content(model) for model in found}
    if len(contents) > 1:
        one = {_content(model): model for model in reversed(found)}
        told = [f"{model.id} {model.name} ({model.size // 2**20} MiB)" for model in one.values()]
        raise ModelAmbiguous(
            f"{quoted(text, 200)} means {len(contents)} different models: {listed(sorted(told), 10)}",
            hint="name one by the digits in front of it",
            details={"ids": sorted(model.id for model in one.values())},
        )
    return found


def _content(model: StoredModel) -> str:
    return model.sha256 or model.place


def _matching(text: str, models: Sequence[StoredModel], inventory: Inventory) -> list[StoredModel]:
    by_place = [model for model in models if text in (model.place, model.path)]
    if by_place:
        return by_place
    if text not in inventory.models:
        by_name = [model for model in models if text in _names(model)]
        if by_name:
            return by_name
        if _HEX.fullmatch(text):
            return [m for m in models if (m.sha256 or m.id).startswith(text)]
        if "/" not in text and ":" not in text and not text.lower().endswith(".gguf"):
            return []
    ref, _ = parse_reference(text, inventory)
    means = _meaning(ref)
    return [model for model in models if means(model)]


def _names(model: StoredModel) -> tuple[str, ...]:
    names = (model.name, model.files[0].name)
    return (*names, *(name.removesuffix(".gguf") for name in names))


def _meaning(ref: Ref) -> Callable[[StoredModel], bool]:
    """Whether a stored model is what a reference refers to."""
    match ref:
        case HubRef():
            return lambda model: _is_of_hub(ref, model)
        case UrlRef():
            return lambda model: (
                model.place.startswith("url/")
                and model.note.source == ref.display
                and ref.sha256 in (None, model.sha256)
            )
        case NodeFileRef(path):
            return lambda model: path in [f"{model.store}/{file.place}" for file in model.files]
        case LocalFileRef(path):
            name = safe_name(path.name)
            return lambda model: name in [file.name for file in model.files]


def _is_of_hub(ref: HubRef, model: StoredModel) -> bool:
    if not model.place.startswith(f"hf/{ref.org}/{ref.repo}/"):
        return False
    if ref.revision is not None and not (model.note.revision or "").startswith(ref.revision):
        return False
    if ref.path is not None:
        return safe_name(ref.path) in [file.name for file in model.files]
    return ref.quant is None or ref.quant.upper() == (model.quant or "").upper()
