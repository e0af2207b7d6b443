"""What the pipeline is compared with: the same GET and the same POST and nothing else, by the same client or by plain httpx.

    python -m bench.bare < job.json

Each of `concurrency` workers fetches a tree, reads its body, posts a message that was made beforehand, and takes the next.
"""

import asyncio
import gc
import secrets
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
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
from receiver.httpclient import AsyncClient, transport

TIMEOUT = 20.0


ClientKind = Literal["kept", "httpx"]
"""`kept`: the one that everything here uses. `httpx`: with its own transport, as it comes."""


class BareJob(BaseModel):
    """How many, so many at once, between which sides, by which client."""

    url: str
    count: int
    concurrency: int
    client: ClientKind = "kept"


def client_of(kind: ClientKind, connections: int) -> AsyncClient:
    """With so many connections, which are kept."""
    limits = httpx.Limits(max_connections=connections, max_keepalive_connections=connections)
    wire = transport(connections) if kind == "kept" else httpx.AsyncHTTPTransport(limits=limits, trust_env=False)
    return AsyncClient(timeout=TIMEOUT, transport=wire, trust_env=False)


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
        client_of(job.client, job.concurrency) as runflow,
        client_of(job.client, job.concurrency) as destination,
    ):
        left = iter(ids)
        workers = (_work(left, posts, job.url, runflow, destination) for _ in range(job.concurrency))
        await asyncio.gather(*workers)


async def _work(
    left: Iterator[UUID], posts: list[Post], url: str, runflow: AsyncClient, destination: AsyncClient
) -> None:
    embeds = ",".join(WIDE_EMBEDS)
    asking = {"Authorization": "Bearer rf_live_measured", "Accept": "application/json"}
    for key in left:
        address = f"{url}/v1/evaluations/{key}?embed={embeds}"
        async with asyncio.timeout(TIMEOUT), runflow.stream("GET", address, headers=asking) as tree:
            await tree.aread()
        post = posts[key.int % KINDS]
        headers = {**post.headers, "webhook-id": f"{key}:evaluation.completed:1"}
        async with (
            asyncio.timeout(TIMEOUT),
            destination.stream("POST", url + POST_PATH, content=post.body, headers=headers) as answer,
        ):
            await answer.aread()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run(BareJob.model_validate_json(sys.stdin.read())))
