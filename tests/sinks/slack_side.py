"""A Slack on loopback that takes what Slack takes: block types and limits, tokens, channels, threads, pace.

Limits are those of Slack's reference pages. What it refuses it refuses in Slack's own words.
"""

import json
import re
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import parse_qs, urlencode

from slack_sdk.signature import SignatureVerifier

from tests.sinks.servers import Connection, Request, WebServer, response

TOKEN: Final = "xoxb-1234-hunter2-of-the-bot"
CHANNEL: Final = "C0QUALITY01"
HARMLESS: Final = re.compile(r"&(amp|lt|gt);")
IMAGE_LINK: Final = re.compile(r"<https://[!-~]+?\|The image>")
_SIDE = r"[👍👎] (<@[UW][A-Z0-9]+>(, )?)*([0-9]+ more)?"
RATERS: Final = re.compile(rf"{_SIDE}(   {_SIDE})?")
MOST_TEXT: Final = 13_000
"""Not documented: of all texts together. Messages with much more than this have been refused."""


def counted(text: str) -> int:
    """The length as Slack may count it at most: UTF-16 units."""
    return len(text.encode("utf-16-le")) // 2


class Refused(Exception):
    """Slack does not take it; the text is its word for why."""


def check_content(content: Mapping[str, Any]) -> None:
    """What is posted, as Slack looks at it. Raises `Refused`."""
    _need(0 < counted(content.get("text", "")) <= 40_000, "no_text")
    blocks = content.get("blocks", [])
    _need(isinstance(blocks, list) and len(blocks) <= 50, "invalid_blocks")
    for block in blocks:
        _need(block.get("type") in BLOCKS, "invalid_blocks")
        BLOCKS[block["type"]](block)
    ids = [block["block_id"] for block in blocks if "block_id" in block]
    _need(len(set(ids)) == len(ids), "invalid_blocks")
    _need(sum(counted(text) for text in texts(blocks)) <= MOST_TEXT, "msg_too_long")


def texts(value: Any) -> Iterator[str]:
    """Every text that people see, in order."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from [item] if key == "text" and isinstance(item, str) else texts(item)
    elif isinstance(value, list):
        for item in value:
            yield from texts(item)


def check_harmless(content: Mapping[str, Any], public_url: str) -> None:
    """No text makes a mention, a link or a format: our links, and who rated, and nothing else are markup."""
    place = re.escape(f"{public_url}/v1/verdicts/")
    ours = re.compile(rf"<{place}[0-9a-f-]{{36}}\|The whole verdict \(asks for a token\)>")
    raters = [block for block in content["blocks"] if block.get("block_id") == "raters"]
    content = {**content, "blocks": [block for block in content["blocks"] if block not in raters]}
    assert all(RATERS.fullmatch(text) for text in texts(raters))
    shown = [*texts(content["blocks"]), content["text"]]
    for text in (IMAGE_LINK.sub("", ours.sub("", each)) for each in shown):
        assert "<" not in text
        assert ">" not in text
        assert "&" not in HARMLESS.sub("", text)
    for each in _objects(content, "mrkdwn"):
        assert ours.fullmatch(each["text"]) or IMAGE_LINK.fullmatch(each["text"])
        assert each["verbatim"] is True
    assert (content["parse"], content["link_names"], content["mrkdwn"]) == ("none", False, False)
    assert (content["unfurl_links"], content["unfurl_media"]) == (False, False)
    assert json.loads(json.dumps(content)) == content


def _objects(value: Any, kind: str) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        yield from [value] if value.get("type") == kind else []
        for item in value.values():
            yield from _objects(item, kind)
    elif isinstance(value, list):
        for item in value:
            yield from _objects(item, kind)


def _need(condition: bool, word: str) -> None:
    if not condition:
        raise Refused(word)


def _keys(thing: Mapping[str, Any], *allowed: str) -> None:
    _need(set(thing) <= {"type", "block_id", *allowed}, "invalid_blocks")
    _need(0 < len(thing.get("block_id", "x")) <= 255, "invalid_blocks")


def _text(thing: Any, limit: int, *kinds: str) -> None:
    _need(isinstance(thing, dict) and thing.get("type") in (kinds or ("plain_text", "mrkdwn")), "invalid_blocks")
    _need(set(thing) <= {"type", "text", "verbatim" if thing["type"] == "mrkdwn" else "emoji"}, "invalid_blocks")
    _need(counted(thing["text"].strip()) > 0 and counted(thing["text"]) <= limit, "invalid_blocks")


def _section(block: Mapping[str, Any]) -> None:
    _keys(block, "text", "fields")
    _need("text" in block or bool(block.get("fields")), "invalid_blocks")
    if "text" in block:
        _text(block["text"], 3000)
    _need(len(block.get("fields", [])) <= 10, "invalid_blocks")
    for each in block.get("fields", []):
        _text(each, 2000)


def _context(block: Mapping[str, Any]) -> None:
    _keys(block, "elements")
    _need(0 < len(block["elements"]) <= 10, "invalid_blocks")
    for each in block["elements"]:
        _text(each, 3000)


def _header(block: Mapping[str, Any]) -> None:
    _keys(block, "text")
    _text(block["text"], 150, "plain_text")


def _image(block: Mapping[str, Any]) -> None:
    _keys(block, "image_url", "alt_text")
    _need(0 < len(block["image_url"]) <= 3000 and block["image_url"].isascii(), "invalid_blocks")
    _need(0 < len(block["alt_text"]) <= 2000, "invalid_blocks")


def _actions(block: Mapping[str, Any]) -> None:
    _keys(block, "elements")
    _need(0 < len(block["elements"]) <= 25, "invalid_blocks")
    names = [element.get("action_id") for element in block["elements"]]
    _need(len(set(names)) == len(names), "invalid_blocks")
    for element in block["elements"]:
        _need(element.get("type") == "button", "invalid_blocks")
        allowed = {"type", "text", "action_id", "value", "style", "accessibility_label"}
        _need(set(element) <= allowed and len(element["action_id"]) <= 255, "invalid_blocks")
        _need(
            len(element.get("value", "")) <= 2000 and len(element.get("accessibility_label", "")) <= 75,
            "invalid_blocks",
        )
        _text(element["text"], 75, "plain_text")


def _divider(block: Mapping[str, Any]) -> None:
    _keys(block)


BLOCKS: Final[Mapping[str, Callable[[Mapping[str, Any]], None]]] = {
    "section": _section,
    "context": _context,
    "header": _header,
    "image": _image,
    "actions": _actions,
    "divider": _divider,
}


@dataclass
class Posted:
    """A message in the channel, as it is now. `thread` is the `ts` of the message that it replies to."""

    ts: str
    content: dict[str, Any]
    thread: str | None = None
    edits: int = 0

    @property
    def text(self) -> str:
        """All of it that people see."""
        return "\n".join(texts(self.content["blocks"]))


@dataclass
class Whispered:
    """A message that one person sees."""

    user: str
    text: str


@dataclass
class Workspace:
    """What Slack knows. `answers` are given, in order, before anything is looked at: a status, a body, headers."""

    token: str = TOKEN
    scopes: str = "chat:write"
    channels: dict[str, dict[str, Any]] = field(default_factory=lambda: {CHANNEL: {"is_member": True}})
    messages: list[Posted] = field(default_factory=list)
    whispers: list[Whispered] = field(default_factory=list)
    answers: deque[tuple[int, bytes, dict[str, str]]] = field(default_factory=deque)
    calls: list[str] = field(default_factory=list)
    unfetchable: str | None = None
    """An image with this in its address cannot be fetched, which spoils the message."""
    clock: int = 1_700_000_000
    noticed: Callable[[Posted], None] = lambda _: None
    """Told of each message before it is answered."""

    def refuse(self, word: str, count: int = 1) -> None:
        """The next calls are answered 200 with `ok: false` and this word."""
        self.answers.extend([(200, json.dumps({"ok": False, "error": word}).encode(), {})] * count)

    def delete(self, ts: str) -> None:
        """Somebody takes a message away."""
        self.messages = [each for each in self.messages if each.ts != ts]

    def post(self, content: dict[str, Any]) -> Posted:
        """Puts a message into the channel. Raises `Refused`."""
        check_content(content)
        if self.unfetchable and self.unfetchable in json.dumps([b for b in content["blocks"] if b["type"] == "image"]):
            raise Refused("invalid_blocks")
        self.clock += 1
        thread = content.get("thread_ts")
        # A reply to a message that is gone is posted into the channel, without a word (slack-go/slack#1571).
        thread = thread if any(each.ts == thread for each in self.messages) else None
        posted = Posted(f"{self.clock}.000100", content, thread)
        self.messages.append(posted)
        self.noticed(posted)
        return posted

    def call(self, method: str, given: dict[str, Any]) -> dict[str, Any]:
        """The body of the answer to a call of the Web API. Raises `Refused`."""
        return _METHODS[method](self, given)

    def _channel(self, given: dict[str, Any], scope: str) -> dict[str, Any]:
        _need(scope in self.scopes.split(","), "missing_scope")
        _need(given.get("channel") in self.channels, "channel_not_found")
        return self.channels[given["channel"]]

    def _may_post(self, given: dict[str, Any]) -> None:
        channel = self._channel(given, "chat:write")
        _need(not channel.get("is_archived"), "is_archived")
        _need(channel["is_member"], "not_in_channel")

    def post_message(self, given: dict[str, Any]) -> dict[str, Any]:
        self._may_post(given)
        posted = self.post(given)
        message = {"ts": posted.ts} | ({"thread_ts": posted.thread} if posted.thread else {})
        return {"channel": given["channel"], "ts": posted.ts, "message": message}

    def update(self, given: dict[str, Any]) -> dict[str, Any]:
        self._may_post(given)
        found = [each for each in self.messages if each.ts == given["ts"]]
        _need(bool(found), "message_not_found")
        check_content(given)
        if self.unfetchable and self.unfetchable in json.dumps([b for b in given["blocks"] if b["type"] == "image"]):
            raise Refused("invalid_blocks")
        found[0].content = given
        found[0].edits += 1
        return {"channel": given["channel"], "ts": given["ts"]}

    def post_ephemeral(self, given: dict[str, Any]) -> dict[str, Any]:
        self._may_post(given)
        _need(0 < len(given["text"]) <= 4000, "no_text")
        self.whispers.append(Whispered(given["user"], given["text"]))
        return {"message_ts": "1.2"}

    def auth_test(self, _: dict[str, Any]) -> dict[str, Any]:
        return {"team": "Studio", "user": "receiver", "user_id": "U0BOT", "bot_id": "B0BOT"}

    def info(self, given: dict[str, Any]) -> dict[str, Any]:
        channel = self._channel(given, "channels:read")
        return {"channel": {"id": given["channel"], "name": "image-quality", "is_archived": False, **channel}}


_METHODS: Final[Mapping[str, Callable[[Workspace, dict[str, Any]], dict[str, Any]]]] = {
    "chat.postMessage": Workspace.post_message,
    "chat.update": Workspace.update,
    "chat.postEphemeral": Workspace.post_ephemeral,
    "auth.test": Workspace.auth_test,
    "conversations.info": Workspace.info,
}


def click(posted: Posted, action: str, *, person: str = "U0ANNA", at: float, channel: str = CHANNEL) -> bytes:
    """The body that Slack sends when a person clicks a button of a message, as it encodes it."""
    blocks = posted.content["blocks"]
    [button] = [
        each
        for block in blocks
        if block["type"] == "actions"
        for each in block["elements"]
        if each["action_id"] == action
    ]
    payload = {
        "type": "block_actions",
        "user": {"id": person, "username": "anna", "name": "anna", "team_id": "T0STUDIO"},
        "api_app_id": "A0RECEIVER",
        "token": "not-used-any-more",
        "container": {"type": "message", "message_ts": posted.ts, "channel_id": channel, "is_ephemeral": False},
        "trigger_id": "1.2.3",
        "team": {"id": "T0STUDIO", "domain": "studio"},
        "channel": {"id": channel, "name": "image-quality"},
        "message": {"type": "message", "ts": posted.ts, "text": posted.content["text"], "blocks": blocks},
        "state": {"values": {}},
        "response_url": "https://hooks.slack.com/actions/T0/1/x",
        "actions": [{**button, "block_id": "rating", "action_ts": f"{at:.6f}"}],
    }
    return urlencode({"payload": json.dumps(payload)}).encode()


def signed_by_slack(body: bytes, secret: str, at: float) -> dict[str, str]:
    """The headers, as Slack's own library makes them."""
    signature = SignatureVerifier(secret).generate_signature(timestamp=str(int(at)), body=body)
    assert signature is not None
    return {"X-Slack-Request-Timestamp": str(int(at)), "X-Slack-Signature": signature}


class SlackServer(WebServer):
    """Speaks for a workspace: `hook_url` is an incoming webhook, `api_url` the Web API."""

    def __init__(self) -> None:
        super().__init__(self._answer)
        self.slack = Workspace()

    @property
    def hook_url(self) -> str:
        """An incoming webhook."""
        return f"http://127.0.0.1:{self.port}/services/T0/B0/hook"

    @property
    def api_url(self) -> str:
        """The Web API."""
        return f"http://127.0.0.1:{self.port}/api"

    async def _answer(self, request: Request, connection: Connection) -> None:
        self.slack.calls.append(request.target.rpartition("/")[2])
        if self.slack.answers:
            status, body, headers = self.slack.answers.popleft()
            await connection.say(response(status, body, **headers))
        elif request.target.startswith("/services/"):
            await connection.say(self._hooked(request))
        else:
            await connection.say(self._called(request))

    def _hooked(self, request: Request) -> bytes:
        try:
            self.slack.post(json.loads(request.body))
        except Refused as word:
            return response(400, str(word).encode())
        return response(200, b"ok")

    def _called(self, request: Request) -> bytes:
        try:
            _need("authorization" in request.headers, "not_authed")
            _need(request.headers["authorization"] == f"Bearer {self.slack.token}", "invalid_auth")
            said = {"ok": True} | self.slack.call(request.target.removeprefix("/api/"), _given(request))
        except Refused as word:
            said = {"ok": False, "error": str(word)}
            if str(word) == "missing_scope":
                said |= {"needed": "chat:write", "provided": self.slack.scopes}
        fields = {"x_oauth_scopes": self.slack.scopes, "content_type": "application/json; charset=utf-8"}
        return response(200, json.dumps(said).encode(), **fields)


def _given(request: Request) -> dict[str, Any]:
    """The arguments: methods that read take no JSON."""
    if request.headers.get("content-type", "").startswith("application/json"):
        given: dict[str, Any] = json.loads(request.body)
        return given if "/chat." in request.target else {}
    return {name: values[0] for name, values in parse_qs(request.body.decode()).items()}
