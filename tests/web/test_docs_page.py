"""`GET /docs`: all that the document says, as a page that runs nothing and loads nothing."""

import re
from base64 import b64encode
from hashlib import sha256
from html.parser import HTMLParser
from typing import Any

import pytest

from tests.web.receivers import Receiver

CLOSED = ("section", "details", "dl", "pre", "ul", "style", "h2", "h3", "h4", "p", "code", "a", "summary", "span")


class Page(HTMLParser):
    """The elements of a page, their attributes, and those of which start and end do not go together."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.wrong: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """One begins."""
        self.elements.append((tag, dict(attrs)))
        if tag in CLOSED:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        """One ends."""
        if tag in CLOSED and (not self.open or self.open.pop() != tag):
            self.wrong.append(tag)

    def all(self, attribute: str) -> list[str]:
        """All values of an attribute."""
        return [value for _, attributes in self.elements if (value := attributes.get(attribute))]


@pytest.fixture
async def shown(on_sqlite: Receiver) -> tuple[str, str]:
    """The page and its policy."""
    answer = await on_sqlite.get("/docs", token=None)
    assert (answer.status, answer.all("content-type")) == (200, ["text/html; charset=utf-8"])
    [policy] = answer.all("content-security-policy")
    return answer.body.decode(), policy


async def test_it_is_well_formed(shown: tuple[str, str]) -> None:
    """Whatever opens is closed, ids are there once, and links lead to one of them or to the document."""
    page = Page(shown[0])
    assert (page.open, page.wrong) == ([], [])
    ids = page.all("id")
    assert len(ids) == len(set(ids))
    assert set(page.all("href")) <= {f"#{each}" for each in ids} | {"/openapi.json"}


async def test_nothing_from_outside(shown: tuple[str, str]) -> None:
    """No script, nothing that is loaded, and a policy that lets nothing but its own style in."""
    text, policy = shown
    page = Page(text)
    assert not {tag for tag, _ in page.elements} & {"script", "link", "img", "iframe", "object", "form"}
    assert [
        name for _, attributes in page.elements for name in attributes if name == "style" or name.startswith("on")
    ] == []
    [style] = re.findall(r"<style>(.*?)</style>", text, re.DOTALL)
    assert "url(" not in style
    digest = b64encode(sha256(style.encode()).digest()).decode()
    assert policy.startswith(f"default-src 'none'; style-src 'sha256-{digest}';")


async def test_everything_is_there(on_sqlite: Receiver, shown: tuple[str, str]) -> None:
    """Every operation, every parameter and every shape of the document is on the page, and no sign of Python's own."""
    document: dict[str, Any] = (await on_sqlite.get("/openapi.json")).json
    page = Page(shown[0])
    operations = [each for methods in document["paths"].values() for each in methods.values()]
    assert {each["operationId"] for each in operations} <= set(page.all("id"))
    assert {f"shape-{name}" for name in document["components"]["schemas"]} <= set(page.all("id"))
    for name in {each["name"] for operation in operations for each in operation.get("parameters", ())}:
        assert f"<dt><code>{name}</code>" in shown[0]
    assert "{&#x27;" not in shown[0]
