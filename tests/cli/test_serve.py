"""`receiver serve` and `receiver work`: how they start, what they take while they run, and how they end."""

import fcntl
import gc
import os
import queue
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import httpx
import pytest
from sqlalchemy import Connection, text

from bench.server import Bare
from receiver.app import Application
from receiver.cli import serving
from receiver.core.signature import Secret
from receiver.errors import SettingsError
from receiver.settings import load_settings
from receiver.store.schema import versions
from receiver.store.tables import events
from receiver.web.hook import PATH
from tests.cli.installation import SECRET, TOKEN, Installation, Process, Result, until
from tests.store.places import rows
from tests.web.receivers import callback
from tests.web.wire import LONG

MISSING = (
    "RUNFLOW_WEBHOOK_SECRET: is missing, so that no callback could be verified; "
    "give the callback secret that Runflow shows once when it is made\n"
)


def post(address: str, body: bytes, secret: str = SECRET) -> httpx.Response:
    headers = {"Runflow-Signature": Secret(secret).sign(body)}
    return httpx.post(f"{address}{PATH}", content=body, headers=headers, timeout=LONG, trust_env=False)


def get(address: str, target: str, token: str = TOKEN) -> httpx.Response:
    headers = {"Authorization": f"Bearer {token}"}
    return httpx.get(f"{address}{target}", headers=headers, timeout=LONG, trust_env=False)


def address_of(process: Process) -> str:
    """Where it says that it listens."""

    def started() -> list[dict[str, str]]:
        assert process.is_running, process.err
        return process.logged("serve.started")

    return until(started, "a started server")[0]["address"]


class Beside:
    """What a test does while a command runs in this process, in a thread; then the command gets its signal."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._ports: queue.Queue[int] = queue.Queue()
        self._failures: list[BaseException] = []
        listen = serving.listen

        def listening(host: str, port: int) -> socket.socket:
            listener = listen(host, port)
            self._ports.put(listener.getsockname()[1])
            return listener

        monkeypatch.setattr(serving, "listen", listening)

    def run(self, command: Callable[[], Result], act: Callable[[str], None], number: signal.Signals) -> Result:
        """How the command ended. An answer proves that its signal handlers are in place: only then may a signal be sent."""

        def beside() -> None:
            try:
                address = f"http://127.0.0.1:{self._ports.get(timeout=LONG)}"
                assert get(address, "/healthz").status_code == 200
                try:
                    act(address)
                finally:
                    os.kill(os.getpid(), number)
            except BaseException as error:  # noqa: BLE001 (it is raised in the test's own thread)
                self._failures.append(error)

        thread = threading.Thread(target=beside)
        thread.start()
        result = command()
        thread.join(LONG)
        for failure in self._failures:
            raise failure
        return result


class _Events:
    """An event for each name, the same for all threads, whichever asks for it first."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._events: dict[str, threading.Event] = {}

    def __getitem__(self, name: str) -> threading.Event:
        with self._lock:
            return self._events.setdefault(name, threading.Event())


class Log:
    """The module's own log, and a way to know that something was told."""

    def __init__(self) -> None:
        self.told = _Events()
        self.at: dict[str, Callable[[], None]] = {}
        self._log = serving.log

    def __getattr__(self, level: str) -> Callable[..., None]:
        def tell(event: str, **fields: object) -> None:
            getattr(self._log, level)(event, **fields)
            self.told[event].set()
            self.at.get(event, lambda: None)()

        return tell


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> Log:
    log = Log()
    monkeypatch.setattr(serving, "log", log)
    return log


@pytest.fixture(autouse=True)
def unfrozen() -> Iterator[None]:
    """A process that serves keeps the collector from what is there at its start; this one goes on."""
    yield
    gc.unfreeze()


@pytest.fixture
def beside(monkeypatch: pytest.MonkeyPatch) -> Beside:
    return Beside(monkeypatch)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("arguments", [["serve"], ["serve", "--no-pipeline"]], ids=" ".join)
def test_serve(fresh: Installation, beside: Beside, arguments: list[str], number: signal.Signals) -> None:
    """It must migrate its SQLite file, take callbacks, serve the API, say what is missing, and end at a signal as it should."""
    evaluation_id, body = callback()

    def act(address: str) -> None:
        assert [post(address, body).status_code for _ in range(2)] == [202, 200]
        assert get(address, "/readyz").status_code == 200
        until(lambda: get(address, f"/v1/verdicts/{evaluation_id}").status_code == 200, "the verdict")
        # Without a pipeline it is for a worker to say that there is no key.
        tree = "pending" if "--no-pipeline" in arguments else "unavailable"
        until(
            lambda: get(address, f"/v1/verdicts/{evaluation_id}").json()["tree"] == tree, "the verdict as it should be"
        )

    ended = beside.run(lambda: fresh.run(*arguments), act, number)
    assert (ended.status, ended.out) == (0, "")
    for told in ("runflow.no_api_key", "serve.started", "serve.stopped"):
        assert ended.err.count(f'"event":"{told}"') == 1
    assert fresh.write(rows, events, "repeats", "waiting") == [(1, False)]


def test_what_it_says_at_the_start(fresh: Installation, beside: Beside) -> None:
    """Settings that are likely not meant are warnings; the database is named; with a key there is no warning about it."""
    environ = {"RUNFLOW_API_KEY": "rf_live_x", "RUNFLOW_API_URL": "http://127.0.0.1:9", "RECEIVER_PROT": "1"}
    ended = beside.run(lambda: fresh.run("serve", "--no-pipeline", **environ), lambda _: None, signal.SIGTERM)
    assert "RECEIVER_PROT: is not a setting" in ended.err
    assert f'"database":"{fresh.url}"' in ended.err
    assert "no_api_key" not in ended.err


def test_new_settings_at_sighup(here: Installation, beside: Beside, log: Log) -> None:
    """SIGHUP must take new secrets; bad settings are refused, and the old stay."""
    new = "whsec_after_the_rotation"
    _, body = callback()

    def act(address: str) -> None:
        assert post(address, body, new).status_code == 401
        os.environ["RUNFLOW_WEBHOOK_SECRET"] = f"new={new}"  # the command's, for it runs in this process
        os.kill(os.getpid(), signal.SIGHUP)
        assert log.told["settings.reloaded"].wait(LONG)
        assert [post(address, body, each).status_code for each in (SECRET, new)] == [401, 202]
        del os.environ["RUNFLOW_WEBHOOK_SECRET"]
        os.kill(os.getpid(), signal.SIGHUP)
        assert log.told["settings.refused"].wait(LONG)
        assert [post(address, body, each).status_code for each in (SECRET, new)] == [401, 200]

    ended = beside.run(lambda: here.run("serve"), act, signal.SIGTERM)
    assert ended.status == 0
    assert '"effect":"the old settings stay"' in ended.err


def test_work(here: Installation) -> None:
    """It needs no callback secret, takes new settings without one, and ends with status 0."""
    del here.environ["RUNFLOW_WEBHOOK_SECRET"]
    with here.process("work") as process:
        until(lambda: process.logged("work.started"), "a started worker")
        process.send(signal.SIGHUP)
        until(lambda: process.logged("settings.reloaded"), "new settings")
        process.send(signal.SIGTERM)
        ended = process.ended()
        assert (ended.status, ended.out, len(process.logged("work.stopped"))) == (0, "", 1)


def test_work_in_this_process(here: Installation, log: Log) -> None:
    """A worker ends as soon as it is told to, also at once."""
    log.at["work.started"] = lambda: os.kill(os.getpid(), signal.SIGINT)
    assert here.run("work").status == 0


def test_a_process_of_its_own(fresh: Installation) -> None:
    """The whole life of a server: start, a callback, a signal, status 0, and nothing said but log lines."""
    with fresh.process("serve") as process:
        address = address_of(process)
        assert post(address, callback()[1]).status_code == 202
        process.send(signal.SIGTERM)
        ended = process.ended()
    assert (ended.status, ended.out) == (0, "")
    assert all(line.startswith('{"timestamp":') for line in ended.err.splitlines())


def test_sighup_in_a_process_of_its_own(here: Installation, tmp_path: Path) -> None:
    """A secret in a file is read again at SIGHUP; settings that are wrong by then leave all as it was."""
    secret = tmp_path / "secret"
    secret.write_text(SECRET)
    del here.environ["RUNFLOW_WEBHOOK_SECRET"]
    _, body = callback()
    new = "whsec_after_the_rotation"
    with here.process("serve", RUNFLOW_WEBHOOK_SECRET_FILE=str(secret)) as process:
        address = address_of(process)
        assert post(address, body).status_code == 202
        secret.write_text(new)
        process.send(signal.SIGHUP)
        until(lambda: process.logged("settings.reloaded"), "new settings")
        assert [post(address, body, each).status_code for each in (SECRET, new)] == [401, 200]

        for before, (toml, problem) in enumerate(
            (
                ("nonsense", "receiver.toml: is not TOML"),
                ("[[sinks]]\nname = 'a'\n", "receiver.toml: sinks[0].type: is missing"),
            )
        ):
            here.configure(toml)
            process.send(signal.SIGHUP)
            refused = refusals(process, before + 1)
            assert refused[-1]["error"].startswith(problem)
        secret.write_text("")
        here.configure("")
        process.send(signal.SIGHUP)
        refusals(process, 3)
        assert [post(address, body, each).status_code for each in (SECRET, new)] == [401, 200]
        process.send(signal.SIGTERM)
        assert process.ended().status == 0


def refusals(process: Process, count: int) -> list[dict[str, str]]:
    """What it says of settings, once it has refused so many."""
    until(lambda: len(process.logged("settings.refused")) >= count, "a refusal")
    return process.logged("settings.refused")


def test_no_callback_secret(here: Installation) -> None:
    """Without a secret nothing can be verified: one line, status 2, and no file or port is touched."""
    del here.environ["RUNFLOW_WEBHOOK_SECRET"]
    assert here.run("serve") == (2, "", MISSING)


def test_a_port_in_use(here: Installation) -> None:
    """A port that is taken must be named, with status 2."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        said = here.run("serve", RECEIVER_PORT=str(port))
    told = f"cannot listen on 127.0.0.1:{port} (Address already in use); name an address that is free"
    assert (said.status, said.err.splitlines()[-1]) == (2, f"RECEIVER_HOST, RECEIVER_PORT: {told}")


@pytest.mark.parametrize(
    ("host", "reason"), [("192.0.2.1", "Cannot assign requested address"), ("x" * 70, "not a name")]
)
def test_an_address_that_is_not_ours(host: str, reason: str) -> None:
    """A host that is another's, or cannot be one, must be told as a wrong setting."""
    with pytest.raises(SettingsError, match=rf"cannot listen on {host}:0 \({reason}\)"):
        serving.listen(host, 0)


def test_addresses_as_people_write_them() -> None:
    """IPv6 addresses stand in brackets."""
    six = SimpleNamespace(getsockname=lambda: ("::1", 8000, 0, 0))  # not every machine has IPv6
    assert serving.address_of(cast("socket.socket", six)) == "http://[::1]:8000"
    with serving.listen("localhost", 0) as listener:
        assert serving.address_of(listener).startswith("http://")


def test_trusted_proxies(tmp_path: Path) -> None:
    """`X-Forwarded-*` is believed of those that are named, and of nobody if none is."""
    app = Application(Bare(), [])
    for given, believed, whom in (
        ("", False, []),
        ("10.0.0.0/8, ::1", True, ["10.0.0.0/8", "::1"]),
        ("*", True, ["*"]),
    ):
        settings = load_settings({"RECEIVER_TRUSTED_PROXIES": given}, directory=tmp_path)
        config = serving.server_config(app, settings)
        assert (config.proxy_headers, config.forwarded_allow_ips) == (believed, whom)


def newer(conn: Connection) -> None:
    conn.execute(text("UPDATE alembic_version SET version_num = '9999'"))


READERS = [["verdicts", "list"], ["deliveries", "list"], ["quarantine", "list"], ["audit"]]


@pytest.mark.parametrize(
    "arguments", [["serve"], ["work"], ["db", "upgrade"], ["db", "current"], *READERS], ids=" ".join
)
def test_a_database_of_a_newer_program(here: Installation, arguments: list[str]) -> None:
    """It must be refused by name, with what to do, status 2, and left alone."""
    here.write(newer)
    said = here.run(*arguments)
    assert (said.status, said.out) == (2, "")
    assert said.err.splitlines()[-1] == (
        f"DATABASE_URL: the database is at schema 9999, newer than this program, which knows up to {versions()[-1]}:"
        " run the newer program, or point DATABASE_URL at another database"
    )


@pytest.mark.parametrize("arguments", [["serve"], ["work"], *READERS], ids=" ".join)
def test_postgresql_that_is_not_migrated(on_postgres: Installation, arguments: list[str]) -> None:
    """It is not migrated by the way: status 2, and the line says how it is done."""
    said = on_postgres.run(*arguments, RECEIVER_LOG_LEVEL="warning", RUNFLOW_API_KEY="rf_live_x")
    told = f"DATABASE_URL: the database is at schema none, this program needs {versions()[-1]}:"
    assert said == (2, "", f"{told} run `receiver db upgrade`, or set DATABASE_AUTO_UPGRADE=on\n")


@pytest.mark.parametrize("command", ["serve", "work"])
def test_a_second_pipeline_on_one_sqlite_file(here: Installation, command: str) -> None:
    """On SQLite one process runs the pipeline; a second is refused by a lock, and says what to do."""
    with (here.folder / "receiver.db.pipeline").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        said = here.run(command)
    assert (said.status, said.out) == (1, "")
    assert said.err.splitlines()[-1] == (
        f"another process runs the pipeline on {here.folder / 'receiver.db'}: on SQLite one may;"
        " stop it, or use PostgreSQL for several"
    )


def test_the_lock_goes_with_its_process(here: Installation) -> None:
    """A process that was killed must not keep the next from the pipeline."""
    with here.process("work") as process:
        until(lambda: process.logged("work.started"), "a started worker")
        assert here.run("work").status == 1
        process.send(signal.SIGKILL)
        process.ended()
    with here.process("work") as process:
        until(lambda: process.logged("work.started"), "a started worker")


@pytest.mark.parametrize("command", ["serve", "work"])
def test_a_folder_that_is_not_there(here: Installation, command: str) -> None:
    """A SQLite file in a folder that does not exist is a wrong setting."""
    said = here.run(command, DATABASE_URL=f"sqlite:///{here.folder}/none/receiver.db")
    assert (said.status, said.out) == (2, "")
    assert said.err.splitlines()[-1] == (
        f"DATABASE_URL: cannot make {here.folder}/none/receiver.db.pipeline (No such file or directory);"
        " name a file in a folder that is there and can be written"
    )
