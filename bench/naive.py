"""The receiver that one would write in an hour, with the usual parts used in the usual way: what ours is compared with.

FastAPI and SQLModel, a session for each request, the signature checked, the body a pydantic model, one insert; the unique key
tells a repeat. `python -m bench.server naive` runs it under uvicorn as it is installed, without its access log.
"""

import hashlib
import hmac
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Annotated, Any
from uuid import UUID

from fastapi import Depends, FastAPI, Header, HTTPException, Request, Response
from pydantic import BaseModel
from sqlalchemy import Engine
from sqlalchemy import event as listened
from sqlalchemy.exc import IntegrityError
from sqlmodel import Field, Session, SQLModel, create_engine

from bench.callbacks import PATH


class Callback(BaseModel):
    """The body of a callback."""

    event: str
    evaluation_id: UUID
    status: str
    client_ref: str | None
    run_id: str | None
    overall_passed: bool | None
    weighted_pass_rate: float | None
    top_issues: list[str]
    top_strengths: list[str]
    primary_action_code: str | None
    failure_code: str | None
    completed_at: datetime


class NaiveEvent(SQLModel, table=True):
    """An evaluation's event, stored once."""

    __tablename__ = "naive_events"

    evaluation_id: UUID = Field(primary_key=True)
    event: str = Field(primary_key=True)
    body: bytes
    received_at: datetime


async def signed_body(request: Request, runflow_signature: Annotated[str, Header()]) -> bytes:
    """The body, if the signature is right."""
    body = await request.body()
    expected = hmac.new(request.app.state.secret, body, hashlib.sha256).hexdigest()
    if not hmac.compare_digest(expected, runflow_signature):
        raise HTTPException(401, "bad signature")
    return body


def open_session(request: Request) -> Iterator[Session]:
    """One for each request, closed after it."""
    with Session(request.app.state.engine) as session:
        yield session


def receive(
    callback: Callback,
    body: Annotated[bytes, Depends(signed_body)],
    session: Annotated[Session, Depends(open_session)],
    response: Response,
) -> dict[str, str]:
    """202 for a new event, 200 for a repeat."""
    row = NaiveEvent(
        evaluation_id=callback.evaluation_id, event=callback.event, body=body, received_at=datetime.now(UTC)
    )
    session.add(row)
    try:
        session.commit()
    except IntegrityError:
        session.rollback()
        response.status_code = 200
        return {"result": "duplicate", "evaluation_id": str(callback.evaluation_id)}
    return {"result": "accepted", "evaluation_id": str(callback.evaluation_id)}


def create_app(database_url: str, secret: str, *, wal: bool) -> FastAPI:
    """The application, with its table made. `wal` gives SQLite the journal and the durability that ours has."""
    app = FastAPI()
    app.state.secret = secret.encode()
    app.state.engine = _engine(database_url, wal=wal)
    app.post(PATH, status_code=202)(receive)
    SQLModel.metadata.create_all(app.state.engine)
    return app


def _engine(url: str, *, wal: bool) -> Engine:
    if url.startswith("postgresql:"):
        return create_engine(url.replace("postgresql:", "postgresql+psycopg:", 1))
    engine = create_engine(url, connect_args={"check_same_thread": False})
    if wal:

        @listened.listens_for(engine, "connect")
        def prepare(connection: Any, _record: object) -> None:
            for pragma in ("journal_mode=WAL", "synchronous=FULL"):
                connection.execute(f"PRAGMA {pragma}").close()

    return engine
