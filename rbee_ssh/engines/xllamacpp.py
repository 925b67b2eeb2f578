"""xllamacpp: llama.cpp's server inside a Python wheel, started by xllamacpp_serve.py on the node."""

from __future__ import annotations

import json
from pathlib import Path
from posixpath import basename, join

from rbee_ssh.engines import CACHE_RAM_MIB, CHECKPOINTS, Launch, LaunchSettings, Readiness, devices
from rbee_ssh.engines.arguments import pairs


class XLlamaCpp:
    """`engine_path` is the Python interpreter that has the package."""

    name = "xllamacpp"
    ready_path = "/health"
    ready_pattern = "model loaded"
    port_pattern = "listening on http://127.0.0.1:"
    binds_before_load = True
    idle_cpu = 0.0

    def launch(self, settings: LaunchSettings) -> Launch:
        """The command that serves `settings`; everything it needs to know is in settings.json."""
        text = json.dumps(
            {
                "model": settings.model_path,
                "alias": settings.alias or basename(settings.model_path),
                "host": settings.socket or "127.0.0.1",
                "key_file": settings.key_file,
                # llama.cpp divides the context by its slots.
                "context": None if settings.context is None else settings.context * max(settings.parallel, 1),
                "parallel": settings.parallel,
                "backend": settings.backend,
                "device_prefixes": devices.PREFIXES.get(settings.backend, ()),
                "cache_ram_mib": CACHE_RAM_MIB,
                "n_ctx_checkpoints": CHECKPOINTS,
                "args": pairs(settings.args),
            },
            indent=1,
        )
        return Launch(
            argv=(
                settings.engine_path,
                "-u",
                join(settings.directory, "serve.py"),
                join(settings.directory, "settings.json"),
            ),
            env=devices.visible(settings.backend, settings.device),
            files=(("serve.py", _source()), ("settings.json", text)),
        )

    def readiness(self, status: int) -> Readiness:
        """/health needs no key: 503 while the model loads, then 200."""
        return {200: Readiness.READY, 401: Readiness.READY, 503: Readiness.LOADING}.get(
            status, Readiness.WRONG
        )


def _source() -> str:
    return Path(__file__).with_name("xllamacpp_serve.py").read_text(encoding="utf-8")
