"""The options that say which worker is wanted, shared by `infer` and `workers start`."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import click

from rbee_ssh.cli.options import options
from rbee_ssh.errors import BackendInvalid, DeviceInvalid, UsageInvalid
from rbee_ssh.wording import listed, nearest, quoted

if TYPE_CHECKING:
    from rbee_ssh.cli.context import Cli
    from rbee_ssh.workers.types import WorkerRequest

_DEVICES = re.compile(r"[0-9]{1,4}(,[0-9]{1,4})*")

worker_options = options(
    click.option(
        "-m",
        "--model",
        metavar="REF",
        help="A preset of the inventory, hf:ORG/REPO:QUANT, an https URL, file:///path/on/the/node.gguf, or "
        "a local path. What the node lacks goes there first. Default: [defaults] model of the inventory.",
    ),
    click.option(
        "--node",
        metavar="NAME",
        help="A node of the inventory. Default: one that has the model ready, else the one with the most "
        "free memory that it fits.",
    ),
    click.option(
        "--context",
        type=click.IntRange(min=1),
        metavar="TOKENS",
        help="Room for prompt and answer of one request, in steps of 256.",
    ),
    click.option(
        "--parallel", type=click.IntRange(1, 256), metavar="N", help="Requests served at the same time."
    ),
    click.option(
        "--engine",
        metavar="NAME",
        help="llama-server, xllamacpp, llama-cpp-python, or auto: the first found.",
    ),
    click.option("--backend", metavar="NAME", help="cpu, cuda, rocm, vulkan, metal, or auto."),
    click.option("--device", metavar="LIST", help="Indices of the backend's devices: 0, or 0,1."),
    click.option("--no-evict", is_flag=True, help="Stop no idle worker of yours to make room for this one."),
)


def worker_request(
    cli: Cli,
    *,
    model: str | None,
    node: str | None,
    context: int | None,
    parallel: int | None,
    engine: str | None,
    backend: str | None,
    device: str | None,
    no_evict: bool = False,
) -> WorkerRequest:
    """What these options ask for.

    Raises:
        UsageInvalid: no model, or an engine that is none.
        BackendInvalid, DeviceInvalid: not a backend, not a list of indices.
        NodeUnknown: not in the inventory.
        InventoryFault: as Cli.inventory.
    """
    from rbee_ssh import inventory as inventories
    from rbee_ssh.workers.types import WorkerRequest

    if backend is not None and backend not in inventories.BACKENDS:
        raise BackendInvalid(
            f"--backend {_unknown(backend, inventories.BACKENDS)}",
            hint="--backend auto",
            details={"backend": backend, "known": list(inventories.BACKENDS)},
        )
    if engine is not None and engine not in inventories.ENGINES:
        raise UsageInvalid(
            f"--engine {_unknown(engine, inventories.ENGINES)}",
            hint="--engine auto",
            details={"engine": engine, "known": list(inventories.ENGINES)},
        )
    if device is not None and not _DEVICES.fullmatch(device):
        raise DeviceInvalid(
            f"--device {quoted(device)}: expected indices of devices, such as 0 or 0,1",
            hint="rbee nodes status   # tells what GPUs there are",
            details={"device": device},
        )
    inventory = cli.inventory()
    if node is not None:
        inventories.node(inventory, node)
    model = model if model is not None else inventory.model
    if not model:
        raise UsageInvalid(
            "no model was given, and the inventory names none",
            hint='rbee infer --model ./tiny.gguf "your prompt", or set model under [defaults]',
        )
    return WorkerRequest(
        model=model,
        node=node,
        context=context,
        parallel=parallel,
        engine=engine,
        backend=backend,
        device=device,
        evict=not no_evict,
    )


def _unknown(word: str, known: tuple[str, ...]) -> str:
    near = nearest(word, known)
    return f"{quoted(word)}: " + (f"did you mean {quoted(near)}?" if near else f"expected {listed(known)}")
