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
from rbee_ssh.workers import chat, own, queue
from rbee_ssh.workers.fleet import Fleet, Serving
from rbee_ssh.workers.sse import EventParser, ServerEvent
from rbee_ssh.workers.tally import Tally
from rbee_ssh.workers.types import Event, InferRequest, Started

if TYPE_CHECKING:
    from rbee_ssh.workers.records import Record

T = TypeVar("T")

# A tick of the worker's supervisor, and a bit: in less time nobody sees whether the worker moves.
LOOK_SECONDS = 6.0


class Missed(Exception):
    """Nobody answered under this entry: not an error, the full path puts it right."""


async def ask(fleet: Fleet, serving: Serving, request: InferRequest, emit: Callable[[Event], None]) -> None:
    """Send the request, and emit the answer as it comes.

    Raises:
        Missed: the worker is not there any more, and nothing was emitted.
        ApiKeyRejected: it has another key by now.
        WorkerBusy: every slot is taken, and the request is not to wait.
        RbeeError: whatever ended the answer early.
    """
    connection, entry = serving.connection, serving.entry
    target, body = chat.payload(request, entry.alias, entry.engine)
    tally = Tally(time.monotonic)
    started = False
    if not entry.api_key:
        raise Missed
    if not request.wait:
        await queue.refuse_full(serving, fleet.registry)
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
                proof=own.proof(connection, entry),
            )
            # llama.cpp's server sends not even a status line before it has the first token.
            async with queue.told(serving, fleet.story):
                answer = await _first(serving, stack.enter_async_context(asking))
            if answer.status == 503:
                raise Missed
            if answer.status != 200:
                raise chat.refusal(answer.status, await _first(serving, answer.body()))
            emit(Started(connection.name, entry.id, entry.model, entry.engine, serving.reused))
            started = True
            async for server_event in _events(serving, answer):
                for event in tally.take(chat.read_event(*server_event)):
                    emit(event)
    except ChannelRefused as error:
        raise Missed from error
    except http.StreamBroken as error:
        record = await _ended(serving)
        # Before it said a word it may have been stopped, by its lease or by somebody. If it died, it did so
        # on this request, and so would the next one.
        if not started and (record is None or record.state not in ("dead", "failed")):
            raise Missed from error
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


async def _events(serving: Serving, answer: http.Response) -> AsyncIterator[tuple[str, str]]:
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


async def _next(serving: Serving, coming: Awaitable[T]) -> T:
    """What is awaited, which may be no longer in coming than a token."""
    limit = serving.connection.timeouts.between_tokens
    try:
        async with asyncio.timeout(limit):
            return await coming
    except TimeoutError:
        raise _stalled(serving, f"no token for {limit:.0f} s") from None


async def _first(serving: Serving, coming: Awaitable[T]) -> T:
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


def _place(error: RbeeError, serving: Serving) -> None:
    """Say of which worker the error speaks, and what to do about it."""
    worker, node = serving.entry.id, serving.connection.name
    if "context" in error.message:
        error.hint = f"a shorter prompt, or more than --context {serving.entry.context}"
    elif error.hint is None:
        error.hint = f"rbee workers logs {worker}"
    error.details |= {"node": node, "worker": worker}


def _stalled(serving: Serving, what: str) -> WorkerStalled:
    return WorkerStalled(
        f"worker {serving.entry.id} on node {serving.connection.name!r}: {what}",
        hint=f"rbee workers stop --now {serving.entry.id}",
        details={"node": serving.connection.name, "worker": serving.entry.id},
    )


async def _record(serving: Serving) -> Record | None:
    from rbee_ssh.workers.look import one

    return await one(serving.connection, serving.entry.id)


def _moved(serving: Serving, before: Record, now: Record, seconds: float) -> bool:
    from rbee_ssh import engines
    from rbee_ssh.workers.moving import moved

    engine = engines.by_name(serving.entry.engine)
    return moved(before, now, seconds=seconds, share=engine.idle_cpu)


async def _alive(serving: Serving) -> bool:
    record = await _record(serving)
    return record is not None and record.state in ("idle", "busy")


async def _ended(serving: Serving) -> Record | None:
    """The worker's record, once its supervisor has written down how it ended; None when there is none."""
    record = None
    for _ in range(10):
        record = await _record(serving)
        if record is None or record.state not in ("idle", "busy", "starting", "loading"):
            break
        await asyncio.sleep(0.2)
    return record


def _crashed(serving: Serving, request: InferRequest, tally: Tally, record: Record | None) -> RbeeError:
    from rbee_ssh.workers import failure

    return failure.crashed(
        record,
        serving.connection.name,
        serving.entry.id,
        tally.received,
        request.sampling.max_tokens,
    )
