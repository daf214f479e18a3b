"""Signatures of AWS, judged by botocore's own client, which signs the same request."""

from __future__ import annotations

import asyncio
import datetime as dt
import sys
import threading
from typing import Any

import botocore.auth  # type: ignore[import-untyped]
import botocore.session  # type: ignore[import-untyped]
import pytest
from botocore.awsrequest import AWSPreparedRequest  # type: ignore[import-untyped]
from botocore.config import Config  # type: ignore[import-untyped]
from botocore.credentials import RefreshableCredentials  # type: ignore[import-untyped]

from proxy_core._secret import Secret
from proxy_core._types import Headers
from proxy_core.dialects._bedrock import converse_path, invoke_path
from proxy_core.errors import ConfigurationError, UpstreamRefusedCredential
from proxy_core.providers._aws import AwsSigner

NOW = dt.datetime(2025, 3, 4, 5, 6, 7, tzinfo=dt.UTC)
BASE = "https://bedrock-runtime.eu-west-1.amazonaws.com"
KEYS: dict[str, Any] = {
    "access_key": Secret("AKIDEXAMPLE"),
    "secret_key": Secret("wJalrXUtnFEMI/K7MDENG+b"),
}
PLAIN: Headers = [(b"content-type", b"application/json"), (b"user-agent", b"llm-proxy")]
MODELS = (
    "anthropic.claude-3-5-sonnet-20240620-v1:0",
    "arn:aws:bedrock:eu-west-1:123456789012:inference-profile/eu.anthropic.claude-v4:0",
)


class Caught(Exception):
    pass


@pytest.fixture(autouse=True)
def _no_api_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_BEARER_TOKEN_BEDROCK", raising=False)


@pytest.fixture
def frozen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(botocore.auth, "get_current_datetime", lambda *_: NOW)


def botocores(model: str, token: str | None) -> AWSPreparedRequest:
    """The request that botocore's client would send for a Converse."""
    session = botocore.session.Session()
    client = session.create_client(
        "bedrock-runtime",
        region_name="eu-west-1",
        aws_access_key_id=KEYS["access_key"].reveal(),
        aws_secret_access_key=KEYS["secret_key"].reveal(),
        aws_session_token=token,
        config=Config(retries={"max_attempts": 0}),
    )
    caught: list[AWSPreparedRequest] = []

    def catch(request: AWSPreparedRequest, **_: Any) -> None:
        caught.append(request)
        raise Caught

    client.meta.events.register("before-send", catch)
    with pytest.raises(Caught):
        client.converse(
            modelId=model, messages=[{"role": "user", "content": [{"text": "Grüß dich"}]}]
        )
    return caught[0]


def text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value


async def signed(signer: AwsSigner, url: str = BASE, headers: Headers = PLAIN) -> dict[str, str]:
    told = await signer.sign("POST", url, headers, b"{}")
    return {name.decode(): value.decode() for name, value in told}


@pytest.mark.usefixtures("frozen")
@pytest.mark.parametrize(("model", "token"), [(MODELS[0], None), (MODELS[1], "FwoGZ=")])
async def test_the_signature_is_botocore_s(model: str, token: str | None) -> None:
    """For a model's id or ARN, address and signature are those of AWS's own client."""
    theirs = botocores(model, token)
    url = BASE + converse_path(model, stream=False)
    assert url == theirs.url
    signer = AwsSigner("eu-west-1", session_token=Secret(token) if token else None, **KEYS)
    ours = dict(await signer.sign("POST", url, PLAIN, theirs.body))
    expected = text(theirs.headers["Authorization"])
    assert ours[b"authorization"].decode() == expected
    assert ours[b"x-amz-date"].decode() == text(theirs.headers["X-Amz-Date"])
    assert ours.get(b"x-amz-security-token") == (token.encode() if token else None)
    assert ours[b"user-agent"] == b"llm-proxy" and ours[b"content-type"] == b"application/json"


def test_paths_of_all_four_ways() -> None:
    """Converse and InvokeModel, whole or streamed, stand where AWS has them."""
    paths = [
        way("a.b:0", stream=on) for way in (converse_path, invoke_path) for on in (True, False)
    ]
    assert paths == [
        f"/model/a.b%3A0/{verb}"
        for verb in ("converse-stream", "converse", "invoke-with-response-stream", "invoke")
    ]


async def test_an_api_key_is_sent_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bedrock's API key, given or of the environment, needs no signature and no botocore."""
    monkeypatch.setitem(sys.modules, "botocore.auth", None)
    given = AwsSigner("us-east-1", api_key=Secret("bedrock-1"))
    monkeypatch.setenv("AWS_BEARER_TOKEN_BEDROCK", "bedrock-2")
    found = AwsSigner("us-east-1")
    old: Headers = [(b"authorization", b"old")]
    assert await signed(given, headers=old) == {"authorization": "Bearer bedrock-1"}
    assert (await signed(found))["authorization"] == "Bearer bedrock-2"


@pytest.mark.usefixtures("frozen")
async def test_keys_that_are_given_win_over_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An API key in the environment does not take the place of keys in the configuration."""
    monkeypatch.setenv("AWS_BEARER_TOKEN_BEDROCK", "x")
    signer = AwsSigner("us-east-1", **KEYS)
    assert (
        "Credential=AKIDEXAMPLE/20250304/us-east-1/bedrock"
        in (await signed(signer))["authorization"]
    )


async def test_the_chain_is_botocore_s_and_runs_in_a_thread(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    """Credentials of the environment are found; without any, the error says what to give."""
    for name in ("AWS_PROFILE", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("BOTO_CONFIG", str(tmp_path / "none"))
    with pytest.raises(UpstreamRefusedCredential, match="access_key and secret_key"):
        await signed(AwsSigner("us-east-1"))
    with pytest.raises(UpstreamRefusedCredential, match="ProfileNotFound"):
        await signed(AwsSigner("us-east-1", profile="nobody"))
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDENV")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    told = await signed(AwsSigner("us-east-1"))
    assert "Credential=AKIDENV/" in told["authorization"]


async def test_credentials_that_end_are_renewed_off_the_loop(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Renewing may block, so it happens in a thread, once for all who ask."""
    threads: list[threading.Thread] = []

    def renew() -> dict[str, str]:
        threads.append(threading.current_thread())
        end = dt.datetime.now(dt.UTC) + dt.timedelta(hours=2)
        return {
            "access_key": "AKIDNEW",
            "secret_key": "s",
            "token": "t",
            "expiry_time": end.isoformat(),
        }

    past = dt.datetime.now(dt.UTC) - dt.timedelta(hours=1)
    credentials = RefreshableCredentials("AKIDOLD", "s", "t", past, renew, "test")
    monkeypatch.setattr(
        "botocore.session.Session.get_credentials", lambda _self: credentials, raising=True
    )
    signer = AwsSigner("us-east-1")
    told = await asyncio.gather(*(signed(signer) for _ in range(5)))
    assert all("Credential=AKIDNEW/" in one["authorization"] for one in told)
    assert len(threads) == 1 and threads[0] is not threading.main_thread()


@pytest.mark.parametrize(
    ("region", "more", "param"),
    [("EU West", {}, "region"), ("us-east-1", {"access_key": Secret("AKID")}, "secret_key")],
)
def test_settings_that_can_t_work(region: str, more: dict[str, Any], param: str) -> None:
    """A wrong region and half a pair of keys are found at the start, and no secret is shown."""
    with pytest.raises(ConfigurationError) as caught:
        AwsSigner(region, **more)
    assert caught.value.param == param and "AKID" not in str(caught.value)


def test_without_botocore_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who lacks the extra is told the line that installs it."""
    monkeypatch.setitem(sys.modules, "botocore.auth", None)
    with pytest.raises(ConfigurationError, match=r"pip install 'proxy-core\[bedrock\]'"):
        AwsSigner("us-east-1", **KEYS)
