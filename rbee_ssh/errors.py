"""Every error a user can meet, one class a code.

RbeeError
├── UsageFault                    exit 2: the command line or the inventory is wrong
│   ├── InventoryInvalid · InventoryUntrusted · InventoryNotFound
│   ├── NodeUnknown · NodeExists · KeyNotFound · SshConfigInvalid
│   ├── WorkerUnknown · UsageInvalid
│   └── ModelRefInvalid · BackendInvalid · DeviceInvalid
├── NodeFault                     exit 1: the way to the node
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

`code` is stable and part of the interface; `message` says what happened and why; `hint` is the next thing
to type, a command that can be pasted where there is one; `details` carries the numbers for `--json`.
Whoever raises keeps secrets out of all three. What a node sent is cleaned of control characters when it is
printed (cli/console.py), not here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar


class RbeeError(Exception):
    """The root: a message, a hint and details under a stable code.

    Args:
        message: what happened and why, without a trailing full stop where it is one sentence.
        hint: what to do next, a command to paste where one exists; None when there is nothing to do.
        details: JSON-serialisable facts (paths, sizes in bytes, attempts).
    """

    code: ClassVar[str] = "UNEXPECTED"
    exit_status: ClassVar[int] = 1

    def __init__(
        self, message: str, *, hint: str | None = None, details: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.details: dict[str, Any] = dict(details or {})

    def as_json(self) -> dict[str, Any]:
        """The object printed under "error" by `--json`."""
        return {
            "code": self.code,
            "message": self.message,
            "hint": self.hint,
            "details": self.details,
        }


class UsageFault(RbeeError):
    """The command line or the inventory is wrong; nothing was sent anywhere."""

    exit_status = 2


class InventoryInvalid(UsageFault):
    code = "INVENTORY_INVALID"


class InventoryUntrusted(UsageFault):
    code = "INVENTORY_UNTRUSTED"


class InventoryNotFound(UsageFault):
    code = "INVENTORY_NOT_FOUND"


class NodeUnknown(UsageFault):
    code = "NODE_UNKNOWN"


class NodeExists(UsageFault):
    code = "NODE_EXISTS"


class KeyNotFound(UsageFault):
    code = "KEY_NOT_FOUND"


class SshConfigInvalid(UsageFault):
    """~/.ssh/config or the system's: not readable, or a line asyncssh cannot parse."""

    code = "SSH_CONFIG_INVALID"


class WorkerUnknown(UsageFault):
    code = "WORKER_UNKNOWN"


class UsageInvalid(UsageFault):
    """A command line that click accepts and we cannot: two options that exclude each other, no prompt."""

    code = "USAGE_INVALID"


class ModelRefInvalid(UsageFault):
    code = "MODEL_REF_INVALID"


class BackendInvalid(UsageFault):
    code = "BACKEND_INVALID"


class DeviceInvalid(UsageFault):
    code = "DEVICE_INVALID"


class NodeFault(RbeeError):
    """The way to the node: network, authentication, host keys, forwarding, shell."""


class NodeUnreachable(NodeFault):
    code = "NODE_UNREACHABLE"


class AuthFailed(NodeFault):
    code = "AUTH_FAILED"


class JumpFailed(NodeFault):
    code = "JUMP_FAILED"


class SessionLimit(NodeFault):
    code = "SESSION_LIMIT"


class HostKeyUnknown(NodeFault):
    code = "HOST_KEY_UNKNOWN"


class HostKeyChanged(NodeFault):
    code = "HOST_KEY_CHANGED"


class ForwardingRefused(NodeFault):
    code = "FORWARDING_REFUSED"


class ShellUnusable(NodeFault):
    code = "SHELL_UNUSABLE"


class NodeLocked(NodeFault):
    """Another command holds the lock of the node's workers, which none does for more than milliseconds."""

    code = "NODE_LOCKED"


class ConnectionLost(NodeFault):
    code = "CONNECTION_LOST"


class EngineFault(RbeeError):
    """The llama.cpp server program on the node."""


class EngineMissing(EngineFault):
    code = "ENGINE_MISSING"


class EngineBroken(EngineFault):
    code = "ENGINE_BROKEN"


class BackendUnavailable(EngineFault):
    code = "BACKEND_UNAVAILABLE"


class SetupFailed(EngineFault):
    """`nodes setup`: a step on the node failed, or no build for its GPU is known."""

    code = "SETUP_FAILED"


class ModelFault(RbeeError):
    """The model file: where it is, whether it is whole, whether it fits."""


class ModelNotFound(ModelFault):
    code = "MODEL_NOT_FOUND"


class ModelForbidden(ModelFault):
    """The hub, or whoever serves a URL, wants a token or an agreement first."""

    code = "MODEL_FORBIDDEN"


class ModelAmbiguous(ModelFault):
    """A repository has several models that fit the reference, and the rule does not choose."""

    code = "MODEL_AMBIGUOUS"


class ModelInvalid(ModelFault):
    code = "MODEL_INVALID"


class ModelInUse(ModelFault):
    """A worker has the file that was to be removed."""

    code = "MODEL_IN_USE"


class RamShort(ModelFault):
    code = "RAM_SHORT"


class VramShort(ModelFault):
    """It does not fit into what is free of the GPUs it was to go to."""

    code = "VRAM_SHORT"


class DiskShort(ModelFault):
    code = "DISK_SHORT"


class DiskFull(ModelFault):
    code = "DISK_FULL"


class DownloadFailed(ModelFault):
    """The hub or a server does not answer, or the bytes stop coming, after all tries."""

    code = "DOWNLOAD_FAILED"


class ChecksumMismatch(ModelFault):
    code = "CHECKSUM_MISMATCH"


class WorkerFault(RbeeError):
    """A running engine: its start, its answers, its end."""


class WorkerStartFailed(WorkerFault):
    code = "WORKER_START_FAILED"


class WorkerStartTimeout(WorkerFault):
    code = "WORKER_START_TIMEOUT"


class WorkerBusy(WorkerFault):
    code = "WORKER_BUSY"


class WorkerCrashed(WorkerFault):
    code = "WORKER_CRASHED"


class WorkerStalled(WorkerFault):
    code = "WORKER_STALLED"


class ApiKeyRejected(WorkerFault):
    code = "API_KEY_REJECTED"


class ResponseInvalid(WorkerFault):
    code = "RESPONSE_INVALID"


class RequestRefused(WorkerFault):
    """The engine answered a well-formed request with an error of its own: a prompt over the context, say."""

    code = "REQUEST_REFUSED"


class RegistryLocked(RbeeError):
    code = "REGISTRY_LOCKED"


class InventoryLocked(RbeeError):
    """Another command is writing the inventory, which none does for more than milliseconds."""

    code = "INVENTORY_LOCKED"


class CronFailed(RbeeError):
    code = "CRON_FAILED"


class Cancelled(RbeeError):
    code = "CANCELLED"
    exit_status = 130


class Unexpected(RbeeError):
    """A bug: the traceback was saved where the message says."""

    code = "UNEXPECTED"
