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

from rbee_ssh.errors import ApiKeyRejected, RbeeError, RequestRefused, ResponseInvalid, WorkerStalled
from rbee_ssh.ssh import http
from rbee_ssh.ssh.connection import ChannelRefused
from rbee_ssh.workers import chat
from rbee_ssh.workers.chat import ResponseStats
from rbee_ssh.workers.types import Event, InferRequest, ServingWorker, Started

if TYPE_CHECKING:
    from rbee_ssh.reporter import Reporter
    from rbee_ssh.ssh.pool import ConnectionPool
    from rbee_ssh.workers.records import Record

T = TypeVar("T")

# A tick of the worker's supervisor, and a bit: in less time nobody sees whether the worker moves.
LOOK_SECONDS = 6.0
# A first token takes longer than this for one of three reasons: a long prompt, a slow node, or a queue.
QUEUE_SECONDS = 3.0


class WorkerGone(Exception):
    """Nobody answered under this entry: not an error, the full path puts it right."""


async def ask(
    pool: ConnectionPool, serving: ServingWorker, request: InferRequest, emit: Callable[[Event], None]
) -> None:
    """Send the request, and emit the answer as it comes.

    Raises:
        WorkerGone: the worker is not there any more, and nothing was emitted.
        ApiKeyRejected: it has another key by now.
        WorkerBusy: every slot is taken, and the request is not to wait.
        RbeeError: whatever ended the answer early.
    """
    connection, entry = serving.connection, serving.entry
    stats = ResponseStats(time.monotonic)
    started = False
    if not entry.api_key:
        raise WorkerGone
    if not request.wait:
        from rbee_ssh.workers.slots import refuse_full

        await refuse_full(serving, pool.registry)
    try:
        async with _answer(serving, request, pool.reporter) as answer:
            emit(Started(connection.name, entry.id, entry.model, entry.engine, serving.reused))
            started = True
            async for server_event in _events(serving, answer):
                for event in stats.take(chat.read_event(server_event.data, server_event.name)):
                    emit(event)
    except ChannelRefused as error:
        raise WorkerGone from error
    except http.StreamBroken as error:
        record = await _ended(serving)
        # Before it said a word it may have been stopped, by its lease or by somebody. If it died, it did so
        # on this request, and so would the next one.
        if not started and (record is None or record.state not in ("dead", "failed")):
            raise WorkerGone from error
        raise _crashed(serving, request, stats, record) from error
    except (RequestRefused, ResponseInvalid, ApiKeyRejected) as error:
        # An engine that is being stopped ends its streams with an error of its own.
        refused = isinstance(error, RequestRefused) and started and not stats.finished
        if refused and not await _alive(serving):
            raise _crashed(serving, request, stats, await _ended(serving)) from error
        _explain(error, serving)
        raise
    if not stats.finished:
        raise await _unfinished(serving, request, stats)
    emit(stats.done())


@contextlib.asynccontextmanager
async def _answer(
    serving: ServingWorker, request: InferRequest, reporter: Reporter
) -> AsyncIterator[http.Response]:
    """The worker's answer once it begins: a stream of events.

    Raises:
        WorkerGone: it is about to end.
        RbeeError: it refuses.
    """
    entry = serving.entry
    target, body = chat.payload(request, entry.alias, entry.engine)
    asking = http.request(
        serving.connection,
        "POST",
        target,
        socket=entry.socket,
        port=entry.port,
        headers={"Authorization": f"Bearer {entry.api_key}", "Content-Type": "application/json"},
        # Lone surrogates (bytes of argv that are not UTF-8) survive as JSON escapes.
        body=json.dumps(body, ensure_ascii=True).encode(),
        proof=serving.proof,
    )
    async with contextlib.AsyncExitStack() as stack:
        # llama.cpp's server sends not even a status line before it has the first token.
        async with queue_notice(serving, reporter):
            answer = await _first(serving, stack.enter_async_context(asking))
        if answer.status == 503:
            raise WorkerGone
        if answer.status != 200:
            raise chat.refusal(answer.status, await _first(serving, answer.body()))
        yield answer


async def _events(serving: ServingWorker, answer: http.Response) -> AsyncIterator[http.ServerEvent]:
    """The stream's events, none of which may be too long in coming."""
    parser = http.EventParser()
    chunks = answer.chunks()

    async def some() -> list[http.ServerEvent]:
        """The next events, none at the end. Pings and half an event keep a connection open, no more."""
        while (chunk := await anext(chunks, None)) is not None:
            if events := parser.feed(chunk):
                return events
        return parser.close()

    events = await _first(serving, some())
    while events:
        for event in events:
            yield event
        limit = serving.connection.timeouts.between_tokens
        try:
            async with asyncio.timeout(limit):
                events = await some()
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


@contextlib.asynccontextmanager
async def queue_notice(serving: ServingWorker, reporter: Reporter) -> AsyncIterator[None]:
    """Say once that the request is queued, if it still waits after QUEUE_SECONDS and that is why."""
    notice = asyncio.create_task(_say_queued(serving, reporter))
    try:
        yield
    finally:
        notice.cancel()
        # Not `await notice`: who is cancelled here would take it for the notice's end, and go on.
        await asyncio.wait([notice])
        if not notice.cancelled():
            notice.result()


async def _say_queued(serving: ServingWorker, reporter: Reporter) -> None:
    await asyncio.sleep(QUEUE_SECONDS)
    from rbee_ssh.workers.slots import say_queued

    await say_queued(serving, reporter)


def _explain(error: RbeeError, serving: ServingWorker) -> None:
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


async def _unfinished(serving: ServingWorker, request: InferRequest, stats: ResponseStats) -> RbeeError:
    """The stream ended, and the engine did not say that this is all."""
    node, entry = serving.connection.name, serving.entry
    if not stats.received and await _alive(serving):
        # llama-cpp-python answers a prompt that is longer than the context with 200 and nothing.
        return RequestRefused(
            f"worker {entry.id} on node {node!r} gave an empty answer and no reason",
            hint=f"a shorter prompt, or more than --context {entry.context}",
            details={"node": node, "worker": entry.id, "context": entry.context},
        )
    return _crashed(serving, request, stats, await _ended(serving))


async def _record(serving: ServingWorker) -> Record | None:
    from rbee_ssh.workers.records import record_of

    return await record_of(serving.connection, serving.entry.id)


def _moved(serving: ServingWorker, before: Record, now: Record, seconds: float) -> bool:
    from rbee_ssh import engines
    from rbee_ssh.workers.records import moved

    return moved(before, now, seconds=seconds, share=engines.by_name(serving.entry.engine).idle_cpu)


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
    serving: ServingWorker, request: InferRequest, stats: ResponseStats, record: Record | None
) -> RbeeError:
    from rbee_ssh.workers import failures

    node, max_tokens = serving.connection.name, request.sampling.max_tokens
    return failures.crashed(record, node, serving.entry.id, stats.received, max_tokens)
