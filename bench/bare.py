"""What the pipeline is compared with: the same GET and the same POST and nothing else, by the same client or by plain httpx.

    python -m bench.bare < job.json

Each of `concurrency` workers fetches a tree, reads its body, posts a message that was made beforehand, and takes the next.
"""

import asyncio
import gc
import secrets
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import aclosing, asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from typing import Literal
from uuid import UUID

import httpx
import uvloop
from pydantic import BaseModel

from bench.callbacks import uuid7
from bench.standins import KINDS, POST_PATH, make_trees
from receiver.core.envelope import CONTENT_TYPE, Message
from receiver.core.evaluation import WIDE_EMBEDS, Evaluation
from receiver.core.verdict import Verdict, from_tree, revise
from receiver.httpclient import Client

TIMEOUT = 20.0


ClientKind = Literal["ours", "httpx"]
"""`ours`: the one that everything here uses. `httpx`: its `AsyncClient`, as it comes."""
Ask = Callable[[str, str, Mapping[str, str], bytes | None], Awaitable[None]]
"""Sends a request (method, address, headers, content) and reads the whole answer."""


class BareJob(BaseModel):
    """How many, so many at once, between which sides, by which client."""

    url: str
    count: int
    concurrency: int
    client: ClientKind = "ours"


@asynccontextmanager
async def asking(kind: ClientKind, connections: int) -> AsyncIterator[Ask]:
    """By this client, with so many connections, which are kept."""
    if kind == "ours":
        async with aclosing(Client(timeout=TIMEOUT, connections=connections)) as ours:
            yield partial(_ask_by_ours, ours)
    else:
        limits = httpx.Limits(max_connections=connections, max_keepalive_connections=connections)
        async with httpx.AsyncClient(timeout=TIMEOUT, limits=limits, trust_env=False) as plain:
            yield partial(_ask_by_httpx, plain)


async def _ask_by_ours(
    client: Client, method: str, url: str, headers: Mapping[str, str], content: bytes | None
) -> None:
    async with aclosing(await client.send(method, url, headers, content)) as answer:
        await answer.aread()


async def _ask_by_httpx(
    client: httpx.AsyncClient, method: str, url: str, headers: Mapping[str, str], content: bytes | None
) -> None:
    async with client.stream(method, url, headers=headers, content=content) as answer:
        await answer.aread()


class Post(BaseModel):
    """A body and its headers."""

    body: bytes
    headers: dict[str, str]


def messages(source: str) -> list[Post]:
    """What the pipeline makes of each tree: the same bytes but for the id."""
    return [_post(tree.of(str(uuid7()).encode()), source) for tree in make_trees()]


def _post(tree: bytes, source: str) -> Post:
    evaluation, _ = Evaluation.read(tree)
    now = datetime.now(UTC)
    key = UUID(str(evaluation.id))
    pending = Verdict(evaluation_id=key, event="evaluation.completed", received_at=now, tree="pending")
    message = Message(revise(None, from_tree(evaluation, pending)), source)
    headers = {
        "content-type": CONTENT_TYPE,
        "webhook-id": message.key,
        "webhook-timestamp": "1790000000",
        "webhook-signature": "v1," + secrets.token_urlsafe(33),
        "accept": "*/*",
        "accept-encoding": "identity",
    }
    return Post(body=message.cloud_event, headers=headers)


async def run(job: BareJob) -> None:
    """All of them."""
    ids = [uuid7() for _ in range(job.count)]
    posts = messages(f"{job.url}/v1/evaluations")
    gc.collect()
    gc.freeze()  # as `receiver work` does
    async with (
        asking(job.client, job.concurrency) as ask_runflow,
        asking(job.client, job.concurrency) as ask_destination,
    ):
        left = iter(ids)
        workers = (_work(left, posts, job.url, ask_runflow, ask_destination) for _ in range(job.concurrency))
        await asyncio.gather(*workers)


async def _work(left: Iterator[UUID], posts: list[Post], url: str, ask_runflow: Ask, ask_destination: Ask) -> None:
    embeds = ",".join(WIDE_EMBEDS)
    who = {"authorization": "Bearer rf_live_measured", "accept": "application/json"}
    for key in left:
        address = f"{url}/v1/evaluations/{key}?embed={embeds}"
        async with asyncio.timeout(TIMEOUT):
            await ask_runflow("GET", address, who, None)
        post = posts[key.int % KINDS]
        headers = {**post.headers, "webhook-id": f"{key}:evaluation.completed:1"}
        async with asyncio.timeout(TIMEOUT):
            await ask_destination("POST", url + POST_PATH, headers, post.body)


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run(BareJob.model_validate_json(sys.stdin.read())))
