"""The API's description as a page: made from the OpenAPI document alone, without a script, and with nothing from outside."""

import json
import re
import shlex
from base64 import b64encode
from collections.abc import Iterator, Mapping
from hashlib import sha256
from html import escape
from typing import Any, Final

_STYLE: Final = """
:root { color-scheme: light dark; --line: light-dark(#d8dde3, #363c44); --dim: light-dark(#57606a, #9aa4af);
  --soft: light-dark(#f3f5f7, #20252b); --link: light-dark(#0b5cad, #7db7ff); }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 64rem; padding: 1rem; font: 1rem/1.5 system-ui, sans-serif;
  background: light-dark(#fff, #15191e); color: light-dark(#1b1f24, #e4e8ec); overflow-wrap: anywhere; }
a { color: var(--link); }
code, pre { font: .875rem/1.45 ui-monospace, monospace; }
pre { background: var(--soft); border: 1px solid var(--line); border-radius: .3rem; padding: .6rem .8rem; overflow-x: auto;
  white-space: pre-wrap; }
h2 { margin: 2.5rem 0 .5rem; border-bottom: 1px solid var(--line); }
h3 { margin: 2.2rem 0 .25rem; } h3 code { font-size: 1.05rem; } h4 { margin: 1rem 0 .25rem; }
p { margin: .25rem 0 .5rem; } ul { padding-left: 1.2rem; }
dl { margin: 0; } dt { margin-top: .45rem; } dd { margin: 0 0 0 1.2rem; color: var(--dim); }
.method { display: inline-block; min-width: 3.6rem; font-weight: 600; } .dim { color: var(--dim); }
summary { cursor: pointer; }
"""
POLICY: Final = (
    f"default-src 'none'; style-src 'sha256-{b64encode(sha256(_STYLE.encode()).digest()).decode()}'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""No script at all, and no style but the page's own."""

_CODE: Final = re.compile(r"`([^`]+)`")
_RIGHTS: Final = {"read": "For any token.", "operate": "For a token that may operate.", None: "Open to all."}
Json = Mapping[str, Any]


def page(document: Json) -> str:
    """The whole page."""
    info = document["info"]
    return "".join(
        (
            '<!doctype html><html lang="en"><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{escape(info['title'])} API</title><style>{_STYLE}</style>",
            f"<h1>{escape(info['title'])} API <span class=dim>{escape(info['version'])}</span></h1>",
            f"<p>{escape(info['summary'])} The same for programs: <a href=/openapi.json>openapi.json</a>.</p>",
            "<p>The examples are for a shell in which it is said where the service is, and who asks:</p>",
            "<pre>RECEIVER=http://127.0.0.1:8000\nTOKEN=one_of_RECEIVER_API_TOKENS</pre>",
            *_contents(document),
            *_operations(document),
            *_errors(document),
            *_shapes(document),
            "</html>",
        )
    )


def _by_tag(document: Json) -> dict[str, list[tuple[str, str, Json]]]:
    """Method, path and operation of each, by subject."""
    tags: dict[str, list[tuple[str, str, Json]]] = {}
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            tags.setdefault(operation["tags"][0], []).append((method.upper(), path, operation))
    return tags


def _contents(document: Json) -> Iterator[str]:
    for tag, operations in _by_tag(document).items():
        yield f"<h4>{escape(tag.capitalize())}</h4><ul>"
        for method, path, operation in operations:
            name = f"<a href=#{operation['operationId']}><code>{method} {escape(path)}</code></a>"
            yield f"<li>{name} <span class=dim>{escape(operation['summary'])}</span>"
        yield "</ul>"


def _operations(document: Json) -> Iterator[str]:
    for tag, operations in _by_tag(document).items():
        yield f"<h2>{escape(tag.capitalize())}</h2>"
        for method, path, operation in operations:
            yield from _operation(method, path, operation)


def _operation(method: str, path: str, operation: Json) -> Iterator[str]:
    rights = [right for each in operation["security"] for right in each["token"]]
    yield f"<section id={operation['operationId']}><h3><code><span class=method>{method}</span> {escape(path)}</code></h3>"
    yield f"<p>{_prose(operation['summary'])}. <span class=dim>{_RIGHTS[rights[0] if rights else None]}</span></p>"
    if "description" in operation:
        yield f"<p>{_prose(operation['description'])}</p>"
    yield f"<pre>{escape(_curl(method, path, operation))}</pre>"
    if operation.get("parameters"):
        yield "<details><summary>Parameters</summary><dl>"
        for each in operation["parameters"]:
            place = "" if each["in"] == "query" else f", in the {each['in']}"
            yield _row(each["name"], _kind(each["schema"]) + place, each["description"])
        yield "</dl></details>"
    if "requestBody" in operation:
        yield "<h4>Body</h4>"
        yield from _content(operation["requestBody"]["content"])
    yield "<h4>Answers</h4>"
    errors = {
        status: each["$ref"].rpartition("/")[2] for status, each in operation["responses"].items() if "$ref" in each
    }
    for status, answer in operation["responses"].items():
        if status not in errors:
            yield f"<p><code>{status}</code> {_prose(answer['description'])}</p>"
            yield from _content(answer.get("content", {}))
    told = ", ".join(f"<code>{status}</code> <a href=#error-{name}>{name}</a>" for status, name in errors.items())
    yield f"<p>{told}</p></section>"


def _content(content: Json) -> Iterator[str]:
    for media, told in content.items():
        yield f"<details><summary><code>{escape(media)}</code>: {_kind(told['schema'])}</summary>"
        example = told.get("example")
        if example is not None:
            text = example if isinstance(example, str) else json.dumps(example, indent=2, ensure_ascii=False)
            yield f"<pre>{escape(text)}</pre>"
        yield "</details>"


def _errors(document: Json) -> Iterator[str]:
    yield "<h2>Errors</h2>"
    for name, answer in document["components"]["responses"].items():
        yield f"<section id=error-{name}><h3>{escape(name)}</h3><p>{_prose(answer['description'])}</p>"
        yield f"<pre>{escape(json.dumps(answer['content']['application/json']['example']))}</pre></section>"


def _shapes(document: Json) -> Iterator[str]:
    yield "<h2>Shapes</h2>"
    for name, schema in document["components"]["schemas"].items():
        yield f"<section id=shape-{name}><h3>{escape(name)}</h3><p>{_prose(schema.get('description', ''))}</p><dl>"
        for field, each in schema.get("properties", {}).items():
            yield _row(field, _kind(each), each.get("description", ""))
        yield "</dl>" if "properties" in schema else f"</dl><p>{_kind(schema)}</p>"
        yield "</section>"


def _row(name: str, kind: str, description: str) -> str:
    return f"<dt><code>{escape(name)}</code> <span class=dim>{kind}</span><dd>{_prose(description)}"


def _kind(schema: Json) -> str:
    """What a value is, in a few words."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"<a href=#shape-{name}>{escape(name)}</a>"
    for words in ("anyOf", "oneOf"):
        if words in schema:
            return " or ".join(_kind(each) for each in schema[words])
    if "const" in schema or "enum" in schema:
        values = schema.get("enum", [schema.get("const")])
        return " or ".join(f"<code>{escape(json.dumps(value))}</code>" for value in values)
    if schema.get("type") == "array":
        return f"list of {_kind(schema.get('items', {}))}"
    kind = escape(str(schema.get("format", schema.get("type", "anything"))))
    bounds = [f"{word} {schema[key]}" for word, key in (("from", "minimum"), ("to", "maximum")) if key in schema]
    return " ".join([kind, *map(escape, bounds)])


def _curl(method: str, path: str, operation: Json) -> str:
    """A request for a shell."""
    parameters = operation.get("parameters", [])
    address = path
    for each in parameters:
        if each["in"] == "path":
            address = address.replace(f"{{{each['name']}}}", str(each.get("example", each["name"])))
    query = "&".join(
        f"{each['name']}={each['example']}" for each in parameters if each["in"] == "query" and "example" in each
    )
    words = ["curl" if method == "GET" else f"curl -X {method}"]
    if operation["security"]:
        words.append('-H "Authorization: Bearer $TOKEN"')
    words += [f'-H "{each["name"]}: …"' for each in parameters if each["in"] == "header" and each["required"]]
    body = next(iter(operation.get("requestBody", {}).get("content", {}).items()), None)
    if body is not None:
        words += [f'-H "Content-Type: {body[0]}"', f"-d {shlex.quote(json.dumps(body[1].get('example')))}"]
    return " \\\n  ".join([*words, f'"$RECEIVER{address}{"?" if query else ""}{query}"'])


def _prose(text: str) -> str:
    return _CODE.sub(r"<code>\1</code>", escape(text))
