"""llama-server: llama.cpp's own binary."""

from __future__ import annotations

from posixpath import basename

from rbee_ssh.engines import CACHE_RAM_MIB, CHECKPOINTS, Engine, Launch, LaunchSettings, devices

# Options that place the model by themselves; ours would contradict them.
_PLACING = ("--device", "-dev", "--rpc")


class LlamaServer(Engine):
    """Serves on a UNIX socket since March 2025; every option used here is older than that."""

    name = "llama-server"

    def launch(self, settings: LaunchSettings) -> Launch:
        """Arguments of the preset come last: the last one counts."""
        listen = ("--host", settings.socket) if settings.socket else ("--host", "127.0.0.1", "--port", "0")
        context = settings.total_context
        argv = (
            settings.engine_path,
            *listen,
            *("--model", settings.model_path),
            # A comma would make several names of it.
            *("--alias", (settings.alias or basename(settings.model_path)).replace(",", "_")),
            *("--api-key-file", settings.key_file),
            *(() if context is None else ("--ctx-size", str(context))),
            *("--parallel", str(settings.parallel)),
            *_placement(settings),
            *settings.args,
        )
        return Launch(argv=argv, env=_environment(settings))


def _placement(settings: LaunchSettings) -> tuple[str, ...]:
    """Where the model goes. All layers on the GPU that was asked for: what does not fit is an error."""
    if any(word.split("=")[0] in _PLACING for word in settings.args):
        return ()
    if settings.backend == "cpu":
        return ("--n-gpu-layers", "0", "--device", "none")
    chosen = devices.names(settings.backend, settings.device)
    # A number, since older builds know neither "all" nor "auto", and put nothing on the GPU by themselves.
    layers = ("--n-gpu-layers", "999")
    return (*layers, "--device", ",".join(chosen)) if chosen else layers


def _environment(settings: LaunchSettings) -> tuple[tuple[str, str], ...]:
    # As variables, because a build that does not know one of them ignores it: the options have come, changed
    # their names and may go. No web page, none of another origin, nothing is to be fetched, and no memory is
    # taken that was not estimated.
    env: list[tuple[str, str]] = [
        ("LLAMA_ARG_NO_WEBUI", "1"),
        ("LLAMA_ARG_UI", "0"),
        ("LLAMA_ARG_CORS_ORIGINS", "localhost"),
        ("LLAMA_ARG_OFFLINE", "1"),
        ("LLAMA_OFFLINE", "1"),
        ("LLAMA_ARG_CACHE_RAM", str(CACHE_RAM_MIB)),
        ("LLAMA_ARG_CTX_CHECKPOINTS", str(CHECKPOINTS)),
    ]
    if settings.backend == "cuda":
        env.append(("CUDA_DEVICE_ORDER", "PCI_BUS_ID"))
    if settings.library_path:
        env.append(("LD_LIBRARY_PATH", settings.library_path))
    return tuple(env)
