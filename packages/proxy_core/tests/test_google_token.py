"""Tokens for Vertex AI, judged by google-auth, which verifies what we sign."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from google.auth import jwt
from google.oauth2.service_account import Credentials

from proxy_core._http_types import HttpRequest
from proxy_core.errors import (
    ConfigurationError,
    ConnectFailed,
    UpstreamFailed,
    UpstreamRefusedCredential,
)
from proxy_core.providers._google import GoogleSigner
from proxy_core.testing import FakeHttp

JWT: Any = jwt
ACCOUNTS: Any = Credentials
KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)


def pem(key: Any) -> str:
    return str(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ).decode()
    )


PUBLIC = KEY.public_key().public_bytes(
    serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
)
ACCOUNT = {
    "type": "service_account",
    "client_email": "proxy@p.iam.gserviceaccount.com",
    "private_key_id": "k1",
    "private_key": pem(KEY),
    "token_uri": "https://oauth2.googleapis.com/token",
}
USER = {
    "type": "authorized_user",
    "client_id": "c",
    "client_secret": "shh",
    "refresh_token": "1//r",
}


class Clock:
    now: float

    def __init__(self, now: float) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def tokens(status: int = 200, **told: Any) -> FakeHttp:
    """Answers ya29.1, ya29.2 and so on, each for an hour."""
    count = iter(range(1, 99))

    def answer(_request: HttpRequest) -> Any:
        body = told or {"access_token": f"ya29.{next(count)}", "expires_in": 3600}
        return status, [], [json.dumps(body).encode()]

    return FakeHttp(answer)


async def bearer(signer: GoogleSigner) -> str:
    headers = await signer.sign("POST", "https://x.example", [(b"authorization", b"no")], b"")
    ((name, value),) = headers
    assert name == b"authorization"
    return value.decode()


async def test_the_assertion_is_what_google_auth_signs_and_verifies() -> None:
    """Google's own library verifies our JWT, and would have claimed the same."""
    http = tokens()
    assert await bearer(GoogleSigner(ACCOUNT, http)) == "Bearer ya29.1"
    (request,) = http.requests
    form = parse_qs(request.body.decode())
    assert request.method == "POST" and request.url == ACCOUNT["token_uri"]
    assert form["grant_type"] == ["urn:ietf:params:oauth:grant-type:jwt-bearer"]
    claims = JWT.decode(form["assertion"][0], certs=PUBLIC, audience=ACCOUNT["token_uri"])
    scope = "https://www.googleapis.com/auth/cloud-platform"
    theirs = ACCOUNTS.from_service_account_info(ACCOUNT, scopes=[scope])
    expected = JWT.decode(theirs._make_authorization_grant_assertion(), verify=False)
    assert claims.keys() == expected.keys()
    assert {**claims, "iat": 0, "exp": 0} == {**expected, "iat": 0, "exp": 0}
    assert claims["exp"] - claims["iat"] == 3600 and abs(claims["iat"] - time.time()) < 60
    assert JWT.decode_header(form["assertion"][0]) == {"alg": "RS256", "typ": "JWT", "kid": "k1"}


async def test_a_user_s_login_is_refreshed() -> None:
    """The file of ``gcloud auth application-default login`` gives tokens too."""
    http = tokens()
    assert await bearer(GoogleSigner(USER, http)) == "Bearer ya29.1"
    assert http.requests[0].url == "https://oauth2.googleapis.com/token"
    assert parse_qs(http.requests[0].body.decode()) == {
        "grant_type": ["refresh_token"],
        "client_id": ["c"],
        "client_secret": ["shh"],
        "refresh_token": ["1//r"],
    }


async def test_a_token_is_kept_until_five_minutes_before_its_end() -> None:
    """One token serves until 300 seconds before it ends, then the next is fetched."""
    clock = Clock(1000.0)
    signer = GoogleSigner(USER, tokens(), clock=clock)
    assert await bearer(signer) == "Bearer ya29.1"
    clock.now += 3299
    assert await bearer(signer) == "Bearer ya29.1"
    clock.now += 1
    assert await bearer(signer) == "Bearer ya29.2"


async def test_all_who_wait_share_one_fetch() -> None:
    """Ten callers at once fetch one token, also when the one who began leaves."""
    http = tokens()
    signer = GoogleSigner(USER, http)
    waiting = [asyncio.create_task(bearer(signer)) for _ in range(10)]
    await asyncio.sleep(0)
    waiting[0].cancel()
    told = await asyncio.gather(*waiting[1:])
    assert set(told) == {"Bearer ya29.1"} and len(http.requests) == 1


def test_another_event_loop_is_none_of_the_signer_s_trouble() -> None:
    """A signer outlives the loop that it was used in."""
    clock = Clock(0.0)
    signer = GoogleSigner(USER, tokens(), clock=clock)
    assert asyncio.run(bearer(signer)) == "Bearer ya29.1"
    clock.now = 1e9
    assert asyncio.run(bearer(signer)) == "Bearer ya29.2"


@pytest.mark.parametrize(
    ("status", "told", "kind", "words"),
    [
        (400, {"error": "invalid_grant", "error_description": "shh"}, None, "400 invalid_grant"),
        (401, {"error": "shh"}, None, "(401)"),
        (200, {"access_token": "a\nb"}, None, "(200)"),
        (200, {"token": "shh"}, None, "(200)"),
        (503, {"error": "shh"}, UpstreamFailed, "(503)"),
    ],
)
async def test_a_refused_token_tells_no_secret(
    status: int, told: dict[str, Any], kind: type[Exception] | None, words: str
) -> None:
    """The error says the status and a known code, and nothing of what Google wrote."""
    with pytest.raises(kind or UpstreamRefusedCredential) as caught:
        await bearer(GoogleSigner(USER, tokens(status, **told)))
    assert words in str(caught.value) and "shh" not in str(caught.value)


async def test_after_a_failure_the_next_call_tries_again() -> None:
    """A fetch that failed is not remembered."""
    answers: list[Any] = [ConnectFailed("down"), (200, [], [b'{"access_token":"ya29.x"}'])]
    signer = GoogleSigner(USER, FakeHttp(lambda _request: answers.pop(0)))
    with pytest.raises(ConnectFailed):
        await bearer(signer)
    assert await bearer(signer) == "Bearer ya29.x"


@pytest.mark.parametrize(
    ("info", "words"),
    [
        ({}, "service_account or authorized_user"),
        ({"type": "external_account"}, "'external_account'"),
        (USER | {"refresh_token": ""}, "'refresh_token'"),
        (ACCOUNT | {"private_key": "shh"}, "no RSA key"),
        (ACCOUNT | {"private_key": pem(ec.generate_private_key(ec.SECP256R1()))}, "no RSA key"),
        (ACCOUNT | {"token_uri": "http://oauth2.googleapis.com/token"}, "https://"),
        (ACCOUNT | {"token_uri": "https://oauth2.googleapis.com.evil.example/"}, "googleapis.com"),
        (ACCOUNT | {"token_uri": 7}, "7"),
    ],
)
def test_credentials_that_can_t_be_used(info: dict[str, Any], words: str) -> None:
    """What is wrong with a file is said at the start, without its secrets."""
    with pytest.raises(ConfigurationError) as caught:
        GoogleSigner(info, tokens())
    assert words in str(caught.value) and "shh" not in str(caught.value)


@pytest.mark.parametrize(
    ("prepare", "words"),
    [
        (lambda path: None, "can't be read"),
        (lambda path: path.write_text("no json"), "is not JSON"),
        (lambda path: path.write_text("[]"), "service_account"),
    ],
)
def test_a_file_that_is_none(tmp_path: Path, prepare: Callable[[Path], Any], words: str) -> None:
    """A missing or malformed file is named."""
    path = tmp_path / "key.json"
    prepare(path)
    with pytest.raises(ConfigurationError, match=words):
        GoogleSigner.from_file(str(path), tokens())


async def test_a_file_and_a_token_uri_of_the_operator_s_own(tmp_path: Path) -> None:
    """A file is read, and an address that is given by hand may be any."""
    path = tmp_path / "key.json"
    path.write_text(json.dumps(USER))
    assert await bearer(GoogleSigner.from_file(str(path), tokens())) == "Bearer ya29.1"
    http = tokens()
    await bearer(GoogleSigner(USER, http, token_uri="http://127.0.0.1:9/token"))
    assert http.requests[0].url == "http://127.0.0.1:9/token"


def test_without_cryptography_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who lacks the extra is told the line that installs it."""
    name = "cryptography.hazmat.primitives.asymmetric.padding"
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ConfigurationError, match=r"pip install 'proxy-core\[vertex\]'"):
        GoogleSigner(ACCOUNT, tokens())
