"""A Runflow that only answers: any evaluation's tree, always after the same time. `python -m bench.runflow SECONDS`"""

import asyncio
import signal
import sys
from itertools import cycle

import orjson
import uvicorn
import uvloop
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from bench.backlog import kinds
from receiver.cli.serving import Server, address_of, listen


def app(seconds: float) -> Starlette:
    """Its trees are made before it starts: it must cost little beside what it measures."""
    answers = cycle([tuple(each.answer.split(str(each.evaluation_id).encode())) for each in kinds()])

    async def evaluation(request: Request) -> Response:
        await asyncio.sleep(seconds)
        key: str = request.path_params["evaluation_id"]
        return Response(key.encode().join(next(answers)), media_type="application/json")

    return Starlette(routes=[Route("/v1/evaluations/{evaluation_id}", evaluation)])


async def serve(seconds: float) -> None:
    """Until SIGTERM, on a free port."""
    with listen("127.0.0.1", 0) as listener:
        server = Server(uvicorn.Config(app(seconds), loop="none", lifespan="off", log_config=None, access_log=False))

        def stop() -> None:
            server.should_exit = True

        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop)
        print(orjson.dumps({"event": "serve.started", "address": address_of(listener)}).decode(), flush=True)
        await server.serve(sockets=[listener])


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(float(sys.argv[1])))
