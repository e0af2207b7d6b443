"""NATS's decentralised credentials, as `nsc` makes them: an operator, an account and a user, each signed by the one above.

(docs.nats.io/running-a-nats-service/configuration/securing_nats/auth_intro/jwt)
"""

import base64
import hashlib
import json
import os
from typing import Any, NamedTuple

import nkeys


class Pair(NamedTuple):
    """A key pair in NATS's words."""

    seed: str
    public: str

    def sign(self, content: bytes) -> bytes:
        """By its seed."""
        return bytes(nkeys.from_seed(bytearray(self.seed.encode())).sign(content))


def pair(prefix: int = nkeys.PREFIX_BYTE_USER) -> Pair:
    """A new one."""
    seed = nkeys.encode_seed(os.urandom(32), prefix)
    return Pair(bytes(seed).decode(), nkeys.from_seed(bytearray(seed)).public_key.decode())


class Operator:
    """Who lets accounts in, with one account that has JetStream."""

    def __init__(self) -> None:
        self._operator = pair(nkeys.PREFIX_BYTE_OPERATOR)
        self._system = pair(nkeys.PREFIX_BYTE_ACCOUNT)
        self._account = pair(nkeys.PREFIX_BYTE_ACCOUNT)

    @property
    def settings(self) -> str:
        """Of a server that believes it."""
        operator = _token(self._operator, self._operator.public, {"type": "operator"})
        accounts = {
            self._system.public: self._signed(self._system, {}),
            self._account.public: self._signed(self._account, {"mem_storage": -1, "disk_storage": -1, "streams": -1}),
        }
        known = ", ".join(f"{public}: {token}" for public, token in accounts.items())
        return (
            f"operator: {operator}\nsystem_account: {self._system.public}\n"
            f"resolver: MEMORY\nresolver_preload: {{ {known} }}\n"
        )

    def _signed(self, account: Pair, more: dict[str, int]) -> str:
        limits = dict.fromkeys(("subs", "data", "payload", "imports", "exports", "conn", "leaf"), -1)
        claims = {"type": "account", "limits": {**limits, **more, "wildcards": True}}
        return _token(self._operator, account.public, claims)

    def credentials(self) -> str:
        """The file of a new user of that account."""
        user = pair()
        token = _token(self._account, user.public, {"type": "user", "subs": -1, "data": -1, "payload": -1})
        return (
            f"-----BEGIN NATS USER JWT-----\n{token}\n------END NATS USER JWT------\n\n"
            f"-----BEGIN USER NKEY SEED-----\n{user.seed}\n------END USER NKEY SEED------\n"
        )


def _token(issuer: Pair, subject: str, claims: dict[str, Any]) -> str:
    content = {"iat": 1, "iss": issuer.public, "sub": subject, "name": "test", "nats": claims | {"version": 2}}
    digest = hashlib.new("sha512_256", json.dumps(content).encode()).digest()
    content["jti"] = base64.b32encode(digest).decode().rstrip("=")
    signed = f"{_part({'typ': 'JWT', 'alg': 'ed25519-nkey'})}.{_part(content)}"
    return f"{signed}.{_encoded(issuer.sign(signed.encode()))}"


def _part(content: dict[str, Any]) -> str:
    return _encoded(json.dumps(content).encode())


def _encoded(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).decode().rstrip("=")
