"""Runflow's callback signature: lower-case hex of HMAC-SHA256 over the raw body, keyed by the whole secret.

The key is the secret as Runflow shows it, `whsec_` included, without base64 decoding. The header carries one value and no
prefix. Nothing signed carries a time, so a signature never expires: only storing once makes a replay harmless.
(docs.runflow.io/guides/verify-callback-signatures)
"""

import hashlib
import hmac
import re
from collections.abc import Iterable, Sequence

HEADER = b"runflow-signature"
"""The header's name as ASGI gives it."""

_WELL_FORMED = re.compile(rb"[0-9a-f]{64}")
_BETWEEN_SECRETS = re.compile(r"[\s,]+")
_RUNFLOW_PREFIX = "whsec_"


class Secret:
    """One callback secret under the label that people see in its place. Its value is never in its repr."""

    __slots__ = ("_prepared", "label")

    def __init__(self, value: str, label: str | None = None) -> None:
        """Raises ValueError, whose message shows nothing of it, for an empty value: an empty key would let anyone sign."""
        if value in ("", _RUNFLOW_PREFIX):
            raise ValueError("a secret is empty")
        try:
            key = value.encode()
        except UnicodeEncodeError:  # a byte of the environment that is no UTF-8; this error would show the value
            raise ValueError("a secret is not UTF-8") from None
        self.label = label or hashlib.sha256(key).hexdigest()[:8]
        # Preparing the key costs more than the digest of a small body, so it is done once and copied for each.
        self._prepared = hmac.new(key, digestmod=hashlib.sha256)

    def __repr__(self) -> str:
        return f"Secret({self.label!r})"

    def sign(self, body: bytes) -> str:
        """The value of `Runflow-Signature` for this body: 64 lower-case hex digits."""
        mac = self._prepared.copy()
        mac.update(body)
        return mac.hexdigest()


class Keyring:
    """All secrets that are good at present; a rotation has two."""

    def __init__(self, secrets: Iterable[Secret]) -> None:
        self._secrets = tuple(secrets)

    def __len__(self) -> int:
        return len(self._secrets)

    def label_of_signer(self, body: bytes, signatures: Sequence[bytes]) -> str | None:
        """The label of the secret that signed `body`, or None if the signature is not good.

        `signatures` are all values of the header, for exactly one is right. Every secret is tried whatever the outcome, and
        each comparison takes constant time, so that the time taken tells nothing.
        """
        if len(signatures) != 1 or not _WELL_FORMED.fullmatch(signatures[0]):
            return None
        signature = signatures[0].decode("ascii")
        signer = None
        for secret in self._secrets:
            if hmac.compare_digest(secret.sign(body), signature):
                signer = secret.label
        return signer


def read_secrets(text: str) -> list[Secret]:
    """The secrets of `RUNFLOW_WEBHOOK_SECRET`: separated by commas or white space, each `SECRET` or `label=SECRET`.

    An item that starts with `whsec_` has no label; otherwise the label ends at the first `=`. Raises ValueError, whose message
    shows no secret, for no item at all, an empty secret, an empty label, or a label or an unlabelled secret given twice.
    """
    secrets = [_read_secret(item) for item in _BETWEEN_SECRETS.split(text.strip()) if item]
    if not secrets:
        raise ValueError("it is empty")
    labels = [secret.label for secret in secrets]
    if len(set(labels)) < len(labels):
        raise ValueError("a label or a secret is given twice")
    return secrets


def _read_secret(item: str) -> Secret:
    if item.startswith(_RUNFLOW_PREFIX):
        return Secret(item)
    label, separator, value = item.partition("=")
    if not separator:
        return Secret(item)
    if not label:
        raise ValueError("a label before = is empty")
    return Secret(value, label)
