"""`rbee models show`: what a model is, what it takes, and where it fits."""

from __future__ import annotations

from collections.abc import Container
from typing import TYPE_CHECKING, Any

import click

from rbee_ssh.cli.context import Cli, pass_cli
from rbee_ssh.cli.options import command, tag_option
from rbee_ssh.cli.shapes import shape
from rbee_ssh.cli.text import Column, size, unreachable
from rbee_ssh.cli.worker_options import worker_request

if TYPE_CHECKING:
    from rbee_ssh.models.memory import Estimate
    from rbee_ssh.workers.fit import MemoryCheck
    from rbee_ssh.workers.model_report import OnNode, Shown

CONTEXT_COLUMNS = (
    Column("CONTEXT", right=True),
    Column("WEIGHTS", right=True),
    Column("CACHE", right=True),
    Column("COMPUTE", right=True),
    Column("ENGINE", right=True),
    Column("TOTAL", right=True),
    Column("BY"),
)
NODE_COLUMNS = (
    Column("NODE"),
    Column("FILE"),
    Column("ENGINE", keep="start"),
    Column("BACKEND"),
    Column("RAM NEED", right=True),
    Column("RAM HAVE", right=True),
    Column("GPU NEED", right=True),
    Column("GPU HAVE", right=True),
    Column("FITS", keep="start"),
)
_NEEDS = "ram_bytes=ram.total ram_parts=ram.parts device_bytes=device.total device_parts=device.parts"


@command(short_help="What a model is, what it takes, where it fits.")
@click.argument("model", metavar="REF")
@click.option("--node", "names", multiple=True, metavar="NAME", help="This node. May be repeated.")
@tag_option
@click.option(
    "--context",
    type=click.IntRange(min=1),
    metavar="TOKENS",
    help="Room for prompt and answer of a request, in steps of 256.",
)
@click.option("--parallel", type=click.IntRange(1, 256), metavar="N", help="Requests at the same time.")
@click.option("--engine", metavar="NAME", help="As for infer.")
@click.option("--backend", metavar="NAME", help="As for infer.")
@click.option("--device", metavar="LIST", help="As for infer.")
@pass_cli
def show(cli: Cli, /, model: str, names: tuple[str, ...], tags: tuple[str, ...], **options: Any) -> None:
    """Show a model's metadata, how much memory it takes at which context, and on which nodes it fits now.

    Only the file's header is read: here, on a node, or where a node would fetch it. The memory is an upper
    bound, out of the header and the engine's settings; where a worker with the very same settings was seen,
    it is corrected by what that took.

    \b
      rbee models show file:///models/tiny.gguf --node gpu1
      rbee models show hf:bartowski/SmolLM2-135M-Instruct-GGUF:Q4_K_M
      rbee models show ./tiny.gguf --context 32768 --parallel 4 --json | jq '.nodes[] | {node, fits}'
    """
    wanted = cli.nodes(names, tags)
    request = worker_request(cli, model=model, node=None, **options)

    from rbee_ssh.workers.model_report import show_model

    shown = cli.run(lambda pool: show_model(pool, request, wanted))
    if cli.as_json:
        cli.console.json(as_json(shown))
        return
    console = cli.console
    for line in metadata(shown):
        console.line(line)
    console.line("")
    console.table(
        CONTEXT_COLUMNS, [context_row(each, found, shown.measured) for each, found in shown.contexts]
    )
    console.line("")
    tokens = shown.settings.context or shown.header.number("context_length")
    console.line(f"With a context of {tokens} tokens × {shown.settings.slots}:")
    console.table(NODE_COLUMNS, [node_row(one) for one in shown.nodes])
    for one in shown.nodes:
        if one.error is not None:
            console.warn(unreachable(one.node, one.error))
        for note in one.estimate.notes if one.estimate else ():
            console.warn(f"{one.node}: {note}")


def metadata(shown: Shown) -> list[str]:
    header = shown.header
    kind = f"{header.architecture}, {shown.header.quant or 'unknown quant'}"
    layers, heads = header.number("block_count"), header.of_arch("attention.head_count")
    kv_heads = header.of_arch("attention.head_count_kv")
    lines = [
        f"model       {shown.model}",
        f"name        {header.text('general.name') or '?'}",
        f"made of     {kind}, {parameters(shown)}, {size(shown.size)}",
        f"context     {header.number('context_length') or '?'} tokens",
        f"layers      {layers}, attention heads {_heads(heads)}, of the cache {_heads(kv_heads or heads)}",
    ]
    if window := header.number("attention.sliding_window"):
        lines.append(f"window      {window} tokens")
    if experts := header.number("expert_count"):
        lines.append(f"experts     {experts}, of which {header.number('expert_used_count') or '?'} at a time")
    if header.parts > 1:
        lines.append(f"files       {header.parts}")
    return lines


def parameters(shown: Shown) -> str:
    """As in 135 M parameters, or the label of the file where its tensors are in several."""
    count = _count(shown)
    if count is None:
        return f"{shown.header.text('general.size_label') or 'unknown number of'} parameters"
    return f"{count / 1e9:.1f} B parameters" if count >= 1e9 else f"{count / 1e6:.0f} M parameters"


def _count(shown: Shown) -> int | None:
    tensors = shown.header.tensors
    return tensors.parameters if tensors is not None and shown.header.parts == 1 else None


def _heads(value: object) -> str:
    if isinstance(value, list):
        low, high = min(value, default=0), max(value, default=0)
        return str(low) if low == high else f"{low} to {high}"
    return str(value) if value is not None else "?"


def context_row(context: int, found: Estimate, measured: Container[int] = ()) -> list[str]:
    """A context's line: RAM and GPU together, and whether a worker was seen to take it."""
    both = (found.ram, found.device)
    cells = [
        sum(need.weights for need in both),
        sum(need.cache + need.state + need.kept for need in both),
        sum(need.compute for need in both),
        sum(need.engine for need in both),
        sum(need.total for need in both),
    ]
    return [str(context), *map(size, cells), "measured" if context in measured else "estimate"]


def node_row(one: OnNode) -> list[str]:
    """A node's line: what it would take there, what there is, and whether that is enough."""
    if one.prepared is None:
        return [one.node, *[""] * 7, "?"]
    choice = one.prepared.choice
    by_kind = {check.kind: check for check in one.checks}
    cells = [cell for kind in ("RAM", "VRAM") for cell in _cells(by_kind.get(kind))]
    return [one.node, there(one), choice.engine.name, choice.backend, *cells, fits(one)]


def _cells(check: MemoryCheck | None) -> list[str]:
    return ["", ""] if check is None else [size(check.need.total), size(check.have)]


def there(one: OnNode) -> str:
    if one.prepared is None or one.has_model is None:
        return "?"
    if one.has_model:
        return "there"
    return "to be sent" if one.prepared.model.remote is None else "to be fetched"


def fits(one: OnNode) -> str:
    if one.fits is None:
        return "?"
    if not one.fits:
        return "no"
    stopped = len(one.evicted)
    return "yes" if not stopped else f"yes, without {stopped} idle worker{'s' if stopped > 1 else ''}"


def as_json(shown: Shown) -> dict[str, object]:
    header = shown.header
    return {
        "model": {
            "reference": shown.model,
            "name": header.text("general.name") or None,
            "architecture": header.architecture,
            "quant": header.quant,
            "parameters": _count(shown),
            "size_bytes": shown.size,
            "context_length": header.number("context_length"),
            "layers": header.number("block_count"),
            "attention_heads": header.of_arch("attention.head_count"),
            "cache_heads": header.of_arch("attention.head_count_kv"),
            "sliding_window": header.number("attention.sliding_window"),
            "experts": header.number("expert_count"),
            "experts_used": header.number("expert_used_count"),
            "vocabulary": header.vocabulary,
            "files": header.parts,
        },
        "memory": [
            {"context": context, "parallel": shown.settings.slots, **shape(found, _NEEDS)}
            for context, found in shown.contexts
        ],
        "nodes": [_node(one) for one in shown.nodes],
    }


def _node(one: OnNode) -> dict[str, object]:
    choice = one.prepared.choice if one.prepared else None
    by_kind = {check.kind: check for check in one.checks}
    ram, device = by_kind.get("RAM"), by_kind.get("VRAM")
    return {
        "node": one.node,
        "engine": choice and choice.engine.name,
        "backend": choice and choice.backend,
        "file_there": one.has_model,
        "fits": one.fits,
        "measured": one.measured,
        "ram_need_bytes": ram and ram.need.total,
        "ram_have_bytes": ram and ram.have,
        "device_need_bytes": device and device.need.total,
        "device_have_bytes": device and device.have,
        "would_stop": [holder.id for holder in one.evicted],
        "error": one.error and one.error.as_json(),
    }
