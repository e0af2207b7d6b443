"""An SQS and its queues as the tests of the `sqs` sink see them: moto's server, in a process of its own."""

import re
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import boto3

from receiver.sinks.sqs import SqsOptions, SqsSink
from tests.sinks.servers import LONG

REGION = "eu-west-1"


class Received(NamedTuple):
    """What a consumer is given."""

    body: str
    attributes: dict[str, str]
    group: str | None


class Queue:
    """A queue of a test's own."""

    def __init__(self, client: Any, url: str, endpoint: str) -> None:
        self._client = client
        self.url = url
        self._endpoint = endpoint

    def options(self, **changes: Any) -> SqsOptions:
        """Options that lead there."""
        given = {"name": "it", "queue_url": self.url, "region": REGION, "endpoint_url": self._endpoint, "timeout": LONG}
        return SqsOptions.model_validate({**given, **changes})

    def sink(self, **changes: Any) -> SqsSink:
        """A sink that leads there."""
        return SqsSink(self.options(**changes))

    def taken_out(self) -> list[Received]:
        """All that is in it, which is not in it afterwards."""
        received: list[Received] = []
        while messages := self._receive().get("Messages"):
            for each in messages:
                attributes = {name: value["StringValue"] for name, value in each["MessageAttributes"].items()}
                received.append(Received(each["Body"], attributes, each["Attributes"].get("MessageGroupId")))
            entries = [{"Id": each["MessageId"], "ReceiptHandle": each["ReceiptHandle"]} for each in messages]
            self._client.delete_message_batch(QueueUrl=self.url, Entries=entries)
        return received

    def _receive(self) -> Any:
        return self._client.receive_message(
            QueueUrl=self.url, MaxNumberOfMessages=10, AttributeNames=["All"], MessageAttributeNames=["All"]
        )

    def remove(self) -> None:
        """The queue is not there any more."""
        self._client.delete_queue(QueueUrl=self.url)


class SqsServer:
    """Any number of queues."""

    def __init__(self) -> None:
        server = str(Path(__file__).with_name("moto_server.py"))
        program = [sys.executable, "-P", "-u", server, "-H", "127.0.0.1", "-p", "0"]
        self._process = subprocess.Popen(program, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        assert self._process.stderr is not None
        lines = iter(self._process.stderr.readline, "")
        self.endpoint = next(match[0] for line in lines if (match := re.search(r"http://127\.0\.0\.1:\d+", line)))
        self._client: Any = boto3.client(
            "sqs",
            region_name=REGION,
            endpoint_url=self.endpoint,
            aws_access_key_id="the",
            aws_secret_access_key="tests",
        )
        # It logs each request there, and would wait for somebody to read.
        self._drain = subprocess.Popen(["cat"], stdin=self._process.stderr, stdout=subprocess.DEVNULL)

    @contextmanager
    def queue(self, *, fifo: bool = False, **attributes: str) -> Iterator[Queue]:
        """A new one."""
        yield self.make(f"test-{uuid.uuid4()}{'.fifo' if fifo else ''}", **attributes)

    def make(self, name: str, **attributes: str) -> Queue:
        """A new one of this name, FIFO if it ends so."""
        if name.endswith(".fifo"):
            attributes["FifoQueue"] = "true"
        made = self._client.create_queue(QueueName=name, Attributes=attributes)
        return Queue(self._client, made["QueueUrl"], self.endpoint)

    def url_of(self, name: str) -> str:
        """The address of a queue that is there or will be."""
        return f"{self.endpoint}/123456789012/{name}"

    def end(self) -> None:
        """Ends the process."""
        self._process.kill()
        self._process.wait()
        self._client.close()
        self._drain.wait()
        assert self._process.stderr is not None
        self._process.stderr.close()
