"""Every error a user can meet, one class a code.

RbeeError
├── UsageFault                    exit 2: the command line or the inventory is wrong
│   ├── InventoryInvalid · InventoryUntrusted · InventoryNotFound
│   ├── NodeUnknown · NodeExists · KeyNotFound · SshConfigInvalid
│   ├── WorkerUnknown · UsageInvalid
│   └── ModelRefInvalid · BackendInvalid · DeviceInvalid
├── NodeFault                     exit 1: the connection to the node
│   ├── NodeUnreachable · AuthFailed · JumpFailed · SessionLimit
│   ├── HostKeyUnknown · HostKeyChanged
│   └── ForwardingRefused · ShellUnusable · NodeLocked · ConnectionLost
├── EngineFault                   exit 1: the llama.cpp server on the node
│   └── EngineMissing · EngineBroken · BackendUnavailable · SetupFailed
├── ModelFault                    exit 1: the model file
│   ├── ModelNotFound · ModelForbidden · ModelAmbiguous · ModelInvalid · ModelInUse
│   └── RamShort · VramShort · DiskShort · DiskFull · DownloadFailed · ChecksumMismatch
├── WorkerFault                   exit 1: a running engine
│   ├── WorkerStartFailed · WorkerStartTimeout
│   ├── WorkerBusy · WorkerCrashed · WorkerStalled
│   └── ApiKeyRejected · ResponseInvalid · RequestRefused
├── RegistryLocked · InventoryLocked    exit 1
├── CronFailed                    exit 1: the user's crontab
├── Cancelled                     exit 130
└── Unexpected                    exit 1: a bug

When each comes stands in docs/architecture.md, "Errors". Whoever raises keeps secrets out of all that is
given to it. What a node sent is cleaned of control characters when it is printed (cli/console.py), not here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, ClassVar


class RbeeError(Exception):
    """The root. `code` is the class's name in capitals, stable and part of the interface.

    Args:
        message: what happened and why, without a trailing full stop where it is one sentence.
        hint: what to do next, a command to paste where one exists; None when there is nothing to do.
        details: facts for `--json` (paths, sizes in bytes, attempts).
    """

    code: ClassVar[str] = "UNEXPECTED"
    exit_status: ClassVar[int] = 1

    def __init_subclass__(cls) -> None:
        if not cls.__name__.endswith("Fault"):  # a family of errors
            cls.code = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", cls.__name__).upper()

    def __init__(
        self, message: str, *, hint: str | None = None, details: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.details: dict[str, Any] = dict(details or {})

    def as_json(self) -> dict[str, Any]:
        """The object printed under "error" by `--json`."""
        return {"code": self.code, "message": self.message, "hint": self.hint, "details": self.details}


class UsageFault(RbeeError):
    """The command line or the inventory is wrong; nothing was sent anywhere."""

    exit_status = 2


class InventoryInvalid(UsageFault): ...


class InventoryUntrusted(UsageFault): ...


class InventoryNotFound(UsageFault): ...


class NodeUnknown(UsageFault): ...


class NodeExists(UsageFault): ...


class KeyNotFound(UsageFault): ...


class SshConfigInvalid(UsageFault): ...


class WorkerUnknown(UsageFault): ...


class UsageInvalid(UsageFault): ...


class ModelRefInvalid(UsageFault): ...


class BackendInvalid(UsageFault): ...


class DeviceInvalid(UsageFault): ...


class NodeFault(RbeeError):
    """The connection to the node: network, authentication, host keys, forwarding, shell."""


class NodeUnreachable(NodeFault): ...


class AuthFailed(NodeFault): ...


class JumpFailed(NodeFault): ...


class SessionLimit(NodeFault): ...


class HostKeyUnknown(NodeFault): ...


class HostKeyChanged(NodeFault): ...


class ForwardingRefused(NodeFault): ...


class ShellUnusable(NodeFault): ...


class NodeLocked(NodeFault): ...


class ConnectionLost(NodeFault): ...


class EngineFault(RbeeError):
    """The llama.cpp server program on the node."""


class EngineMissing(EngineFault): ...


class EngineBroken(EngineFault): ...


class BackendUnavailable(EngineFault): ...


class SetupFailed(EngineFault): ...


class ModelFault(RbeeError):
    """The model file: where it is, whether it is whole, whether it fits."""


class ModelNotFound(ModelFault): ...


class ModelForbidden(ModelFault): ...


class ModelAmbiguous(ModelFault): ...


class ModelInvalid(ModelFault): ...


class ModelInUse(ModelFault): ...


class RamShort(ModelFault): ...


class VramShort(ModelFault): ...


class DiskShort(ModelFault): ...


class DiskFull(ModelFault): ...


class DownloadFailed(ModelFault): ...


class ChecksumMismatch(ModelFault): ...


class WorkerFault(RbeeError):
    """A running engine: its start, its answers, its end."""


class WorkerStartFailed(WorkerFault): ...


class WorkerStartTimeout(WorkerFault): ...


class WorkerBusy(WorkerFault): ...


class WorkerCrashed(WorkerFault): ...


class WorkerStalled(WorkerFault): ...


class ApiKeyRejected(WorkerFault): ...


class ResponseInvalid(WorkerFault): ...


class RequestRefused(WorkerFault): ...


class RegistryLocked(RbeeError): ...


class InventoryLocked(RbeeError): ...


class CronFailed(RbeeError): ...


class Cancelled(RbeeError):
    exit_status = 130


class Unexpected(RbeeError):
    """A bug: the traceback was saved where the message says."""
