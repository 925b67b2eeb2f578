"""One request to one worker: its answer, event by event, and what became of it when there is none.

Loaded while the node is busy with the login (infer.py): what is imported here costs no time there.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

from rbee_ssh.errors import (
    ApiKeyRejected,
    RbeeError,
    RequestRefused,
    ResponseInvalid,
    WorkerBusy,
    WorkerStalled,
)
from rbee_ssh.registry import Registry
from rbee_ssh.reporter import Reporter
from rbee_ssh.ssh import http
from rbee_ssh.ssh.connection import ChannelRefused
from rbee_ssh.ssh.pool import ConnectionPool, ServingWorker
from rbee_ssh.workers import chat
from rbee_ssh.workers.chat import EventParser, ResponseStats, ServerEvent
from rbee_ssh.workers.types import Event, InferRequest, Started

if TYPE_CHECKING:
    from rbee_ssh.workers.records import Record


T = TypeVar("T")

# A tick of the worker's supervisor, and a bit: in less time nobody sees whether the worker moves.
LOOK_SECONDS = 6.0


class WorkerGone(Exception):
    """Nobody answered under this entry: not an error, the full path puts it right."""


async def ask(
    pool: ConnectionPool, serving: ServingWorker, request: InferRequest, emit: Callable[[Event], None]
) -> None:
    """Send the request, and emit the answer as it comes.

    Raises:
        Missed: the worker is not there any more, and nothing was emitted.
        ApiKeyRejected: it has another key by now.
        WorkerBusy: every slot is taken, and the request is not to wait.
        RbeeError: whatever ended the answer early.
    """
    connection, entry = serving.connection, serving.entry
    target, body = chat.payload(request, entry.alias, entry.engine)
    tally = ResponseStats(time.monotonic)
    started = False
    if not entry.api_key:
        raise WorkerGone
    if not request.wait:
        await refuse_full(serving, pool.registry)
    try:
        async with contextlib.AsyncExitStack() as stack:
            asking = http.request(
                connection,
                "POST",
                target,
                socket=entry.socket,
                port=entry.port,
                headers={
                    "Authorization": f"Bearer {entry.api_key}",
                    "Content-Type": "application/json",
                },
                # Lone surrogates (bytes of argv that are not UTF-8) survive as JSON escapes.
                body=json.dumps(body, ensure_ascii=True).encode(),
            )
            # llama.cpp's server sends not even a status line before it has the first token.
            async with told(serving, pool.reporter):
                answer = await _first(serving, stack.enter_async_context(asking))
            if answer.status == 503:
                raise WorkerGone
            if answer.status != 200:
                raise chat.refusal(answer.status, await _first(serving, answer.body()))
            emit(Started(connection.name, entry.id, entry.model, entry.engine, serving.reused))
            started = True
            async for server_event in _events(serving, answer):
                for event in tally.take(chat.read_event(*server_event)):
                    emit(event)
    except ChannelRefused as error:
        raise WorkerGone from error
    except http.StreamBroken as error:
        record = await _ended(serving)
        # Before it said a word it may have been stopped, by its lease or by somebody. If it died, it did so
        # on this request, and so would the next one.
        if not started and (record is None or record.state not in ("dead", "failed")):
            raise WorkerGone from error
        raise _crashed(serving, request, tally, record) from error
    except (RequestRefused, ResponseInvalid, ApiKeyRejected) as error:
        # An engine that is being stopped ends its streams with an error of its own.
        refused = isinstance(error, RequestRefused)
        if refused and started and not tally.finished and not await _alive(serving):
            raise _crashed(serving, request, tally, await _ended(serving)) from error
        _place(error, serving)
        raise
    if not tally.finished:
        if not tally.received and await _alive(serving):
            # llama-cpp-python answers a prompt that is longer than the context with 200 and nothing.
            raise RequestRefused(
                f"worker {entry.id} on node {connection.name!r} gave an empty answer and no reason",
                hint=f"a shorter prompt, or more than --context {entry.context}",
                details={"node": connection.name, "worker": entry.id, "context": entry.context},
            )
        raise _crashed(serving, request, tally, await _ended(serving))
    emit(tally.done())


async def _events(serving: ServingWorker, answer: http.Response) -> AsyncIterator[tuple[str, str]]:
    """(data, name) of the stream's events, none of which may be too long in coming."""
    parser = EventParser()
    chunks = answer.chunks()

    async def some() -> list[ServerEvent]:
        """The next events, none at the end. Pings and half an event keep a connection open, no more."""
        while (chunk := await anext(chunks, None)) is not None:
            if events := parser.feed(chunk):
                return events
        return parser.close()

    events = await _first(serving, some())
    while events:
        for event in events:
            yield event.data, event.name
        events = await _next(serving, some())


async def _next(serving: ServingWorker, coming: Awaitable[T]) -> T:
    """What is awaited, which may be no longer in coming than a token."""
    limit = serving.connection.timeouts.between_tokens
    try:
        async with asyncio.timeout(limit):
            return await coming
    except TimeoutError:
        raise _stalled(serving, f"no token for {limit:.0f} s") from None


async def _first(serving: ServingWorker, coming: Awaitable[T]) -> T:
    """What is awaited, for as long as the worker moves: a prompt can be chewed for minutes before it answers.
    In a task of its own: asking that takes a while."""
    step = asyncio.ensure_future(coming)
    seconds = LOOK_SECONDS
    before: Record | None = None
    try:
        while not (await asyncio.wait([step], timeout=seconds))[0]:
            now = await _record(serving)
            if now is None or (before and not _moved(serving, before, now, seconds)):
                raise _stalled(serving, "no first token, and no activity")
            before, seconds = now, max(serving.connection.timeouts.first_token, LOOK_SECONDS)
        return step.result()
    finally:
        step.cancel()
        await asyncio.wait([step])
        if not step.cancelled():
            step.exception()  # looked at, or asyncio says at the end that nobody did


def _place(error: RbeeError, serving: ServingWorker) -> None:
    """Say of which worker the error speaks, and what to do about it."""
    worker, node = serving.entry.id, serving.connection.name
    if "context" in error.message:
        error.hint = f"a shorter prompt, or more than --context {serving.entry.context}"
    elif error.hint is None:
        error.hint = f"rbee workers logs {worker}"
    error.details |= {"node": node, "worker": worker}


def _stalled(serving: ServingWorker, what: str) -> WorkerStalled:
    return WorkerStalled(
        f"worker {serving.entry.id} on node {serving.connection.name!r}: {what}",
        hint=f"rbee workers stop --now {serving.entry.id}",
        details={"node": serving.connection.name, "worker": serving.entry.id},
    )


async def _record(serving: ServingWorker) -> Record | None:
    from rbee_ssh.workers.records import record_of

    return await record_of(serving.connection, serving.entry.id)


def _moved(serving: ServingWorker, before: Record, now: Record, seconds: float) -> bool:
    from rbee_ssh import engines
    from rbee_ssh.workers.records import moved

    engine = engines.by_name(serving.entry.engine)
    return moved(before, now, seconds=seconds, share=engine.idle_cpu)


async def _alive(serving: ServingWorker) -> bool:
    record = await _record(serving)
    return record is not None and record.state in ("idle", "busy")


async def _ended(serving: ServingWorker) -> Record | None:
    """The worker's record, once its supervisor has written down how it ended; None when there is none."""
    record = None
    for _ in range(10):
        record = await _record(serving)
        if record is None or record.state not in ("idle", "busy", "starting", "loading"):
            break
        await asyncio.sleep(0.2)
    return record


def _crashed(
    serving: ServingWorker, request: InferRequest, tally: ResponseStats, record: Record | None
) -> RbeeError:
    from rbee_ssh.workers import failures

    return failures.crashed(
        record,
        serving.connection.name,
        serving.entry.id,
        tally.received,
        request.sampling.max_tokens,
    )


# A first token takes longer than this for one of three reasons: a long prompt, a slow node, or a queue.
PATIENCE_SECONDS = 3.0


def slots(record: Record) -> int:
    """How many requests the worker serves at the same time."""
    parallel = record.spec.get("parallel")
    return parallel if isinstance(parallel, int) and not isinstance(parallel, bool) and parallel > 0 else 1


def full(record: Record, own: int = 0) -> bool:
    """Whether every slot is taken by others.

    Args:
        own: how many of the worker's connections are this command's.
    """
    return record.state == "busy" and (record.number("connections") or 1) - own >= slots(record)


def busy(record: Record, node: str, others: tuple[str, ...]) -> WorkerBusy:
    """The error for who does not want to wait.

    Args:
        others: nodes with a worker of the same model, as far as is known here.
    """
    taken = slots(record)
    which = "its slot is" if taken == 1 else f"all {taken} slots are"
    return WorkerBusy(
        f"worker {record.id} on node {node!r} is busy: {which} taken",
        hint=f"rbee infer --node {others[0]} …" if others else "leave out --no-wait to wait for it",
        details={"node": node, "worker": record.id, "slots": taken, "others": list(others)},
    )


async def refuse_full(serving: ServingWorker, registry: Registry) -> None:
    """Look at the worker, for a request that is not to wait.

    Raises:
        WorkerBusy: every slot is taken.
        NodeFault: the connection or its shell.
    """
    from rbee_ssh.workers.records import record_of

    node = serving.connection.name
    record = await record_of(serving.connection, serving.entry.id)
    if record is not None and full(record):
        known = await registry.off_loop(registry.workers)
        same = {entry.node for entry in known if entry.model == serving.entry.model and entry.node != node}
        raise busy(record, node, tuple(sorted(same)))


@contextlib.asynccontextmanager
async def told(serving: ServingWorker, reporter: Reporter) -> AsyncIterator[None]:
    """Say once that the request is queued, if it still waits after PATIENCE_SECONDS and that is why."""
    teller = asyncio.create_task(_tell(serving, reporter))
    try:
        yield
    finally:
        teller.cancel()
        # Not `await teller`: who is cancelled here would take it for the teller's end, and go on.
        await asyncio.wait([teller])
        if not teller.cancelled():
            teller.result()


async def _tell(serving: ServingWorker, reporter: Reporter) -> None:
    await asyncio.sleep(PATIENCE_SECONDS)
    from rbee_ssh.workers.records import record_of

    with contextlib.suppress(RbeeError):  # whatever is wrong with the connection ends the request itself
        record = await record_of(serving.connection, serving.entry.id)
        if record is not None and full(record, own=1):
            reporter.say(f"queued: worker {record.id} on {serving.connection.name} is answering others")
