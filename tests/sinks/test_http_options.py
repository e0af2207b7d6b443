"""`http`: which options are taken, and that a wrong one is refused without being shown."""

import pytest
from pydantic import ValidationError

from receiver.sinks.http import HttpOptions, HttpSink
from tests.sinks.destinations import PASSWORD, SIGNING_SECRET


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("url", f"ftp://{PASSWORD}.example/"),
        ("url", f"{PASSWORD}.example/hook"),
        ("url", f"http:///{PASSWORD}"),
        ("url", f"http://{PASSWORD}:port/"),
        ("url", f"http://[{PASSWORD}/"),
        ("url", f"http://{PASSWORD}:99999/"),
        ("url", f"http://{PASSWORD}:0/"),
        ("url", f"http://{PASSWORD}..example/"),
        ("url", f"http://{PASSWORD}{'x' * 64}.example/"),
        ("url", ""),
        ("secret", ""),
        ("secret", "whsec_"),
        ("secret", f"whsec_{PASSWORD}"),
        ("secret", PASSWORD * 8),
        ("secret", "whsec_" + PASSWORD * 30),
        ("secret", f"whsec_{PASSWORD}{'A' * 30}"),
        ("secret", f"whsec_{PASSWORD}-{'A' * 40}"),
        ("headers", {"Content-Type": PASSWORD}),
        ("headers", {"webhook-id": PASSWORD}),
        ("headers", {"Host": PASSWORD}),
        ("headers", {"X A": PASSWORD}),
        ("headers", {"": PASSWORD}),
        ("headers", {"X-A": f"{PASSWORD}\r\nX-B: c"}),
        ("headers", {"X-A": f"{PASSWORD}é"}),
        ("headers", {"X-A": ""}),
        ("headers", {"X-A": PASSWORD, "x-a": PASSWORD}),
        ("max_bytes", 0),
        ("timeout", 0),
        ("unknown", PASSWORD),
    ],
)
def test_a_wrong_option_is_refused_by_name_and_not_shown(option: str, value: object) -> None:
    """The error names the option and does not repeat what was given."""
    given = {"name": "it", "url": "https://example.org/", "secret": SIGNING_SECRET, option: value}
    with pytest.raises(ValidationError) as caught:
        HttpOptions.model_validate(given)

    [error] = caught.value.errors(include_input=False, include_url=False)
    assert error["loc"][0] == option
    assert PASSWORD not in error["msg"]
    assert PASSWORD not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"url": "http://example.org/", "tls_ca": "ca.pem"}, "tls_ca, tls_cert and tls_key go with https:// only"),
        ({"url": "HTTPS://example.org/", "tls_key": "key.pem"}, "tls_key is the key of tls_cert, which is not given"),
    ],
)
def test_files_of_tls_that_nobody_would_read_are_refused(changes: dict[str, str], reason: str) -> None:
    """The error says what they go with."""
    with pytest.raises(ValidationError, match=reason):
        HttpOptions.model_validate({"name": "it", "secret": SIGNING_SECRET, **changes})


@pytest.mark.parametrize("length", [32, 34, 35, 86])
@pytest.mark.parametrize("padding", ["", "=", "=="])
def test_a_secret_may_come_with_or_without_padding(length: int, padding: str) -> None:
    """Base64 of 24 to 64 bytes, as the scheme says."""
    secret = f"whsec_{'A' * length}{padding}"

    assert HttpOptions(name="it", url="https://example.org/", secret=secret).secret.get_secret_value() == secret


def test_options_open_a_sink_with_the_systems_clock() -> None:
    """Plain http is taken as well: the signature is there all the same."""
    assert isinstance(HttpOptions(name="it", url="http://example.org/", secret=SIGNING_SECRET).open(None), HttpSink)
