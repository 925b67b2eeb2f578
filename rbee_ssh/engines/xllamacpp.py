"""xllamacpp: llama.cpp's server inside a Python wheel, started by xllamacpp_serve.py on the node."""

from __future__ import annotations

import json
from pathlib import Path
from posixpath import basename, join

from rbee_ssh.engines import CACHE_RAM_MIB, CHECKPOINTS, Engine, Launch, LaunchSettings, devices
from rbee_ssh.engines.arguments import pairs


class XLlamaCpp(Engine):
    """`engine_path` is the Python interpreter that has the package."""

    name = "xllamacpp"

    def launch(self, settings: LaunchSettings) -> Launch:
        """Everything that it needs to know is in settings.json."""
        text = json.dumps(
            {
                "model": settings.model_path,
                "alias": settings.alias or basename(settings.model_path),
                "host": settings.socket or "127.0.0.1",
                "key_file": settings.key_file,
                "context": settings.total_context,
                "parallel": settings.parallel,
                "backend": settings.backend,
                "device_prefixes": devices.PREFIXES.get(settings.backend, ()),
                "cache_ram_mib": CACHE_RAM_MIB,
                "n_ctx_checkpoints": CHECKPOINTS,
                "args": pairs(settings.args),
            },
            indent=1,
        )
        source = Path(__file__).with_name("xllamacpp_serve.py").read_text(encoding="utf-8")
        files = (("serve.py", source), ("settings.json", text))
        return Launch(
            argv=(settings.engine_path, "-u", *(join(settings.directory, name) for name, _ in files)),
            env=devices.visible(settings.backend, settings.device),
            files=files,
        )
