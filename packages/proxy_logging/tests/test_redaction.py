"""The net: a secret that reaches the log doesn't leave it."""

from __future__ import annotations

import dataclasses
import io
import logging
import time
from typing import Any, Literal

import msgspec
import pytest

from proxy_logging import StructuredLogger, bound_request, configure_logging
from proxy_logging._redact import looks_safe, redact

CANARIES = [
    "sk-CANARY0123456789abcdef",
    "sk-proj-CANARY_0123456789-abcdef",
    "sk-ant-api03-CANARY0123456789",
    "sk-lp-k7f3-CANARYsecretchecksum",
    "AIzaSyCANARY0123456789abcdefghijklmnopq",
    "Bearer CANARY.any~printable+string/==",
    "gsk_CANARY0123456789",
    "xai-CANARY0123456789",
    "hf_CANARY0123456789",
    "postgresql://llm:CANARY@db/llm",
    "redis://:CANARY@cache:6379/0",
]


class Settings(msgspec.Struct):
    api_key: str
    name: str = "n"


@dataclasses.dataclass
class Account:
    password: str
    note: str = ""


def places(secret: str) -> dict[str, dict[str, Any]]:
    """Where a secret may stand in a line's fields."""
    return {
        "value": {"a": secret},
        "in a text": {"a": f"tried {secret} and failed"},
        "after a line's end": {"a": f"x\n{secret}"},
        "in a repr": {"a": repr(f"x\n{secret}\t{secret}")},
        "in quotes": {"a": f"'{secret}' \"{secret}\""},
        "url-encoded neighbour": {"a": f"x%20{secret} y%3d{secret}"},
        "nested": {"a": {"b": [1, ("c", {"d": secret})]}},
        "key": {"a": {secret: 1}},
        "bytes": {"a": secret.encode(), "b": [secret.encode()]},
        "struct": {"a": Settings(secret, secret)},
        "dataclass": {"a": Account("x", secret)},
        "exception": {"a": ValueError(secret), "exc_info": ValueError(secret)},
        "long": {"a": "x" * 16_340 + " " + secret + "x" * 1_000_000},
        "set": {"a": {secret}},
        "not ascii": {"a": f"ü{secret}"},
    }


@pytest.mark.parametrize("form", ["json", "console"])
@pytest.mark.parametrize("secret", CANARIES)
@pytest.mark.parametrize("place", list(places("")))
def test_canaries_never_appear(place: str, secret: str, form: Literal["json", "console"]) -> None:
    """No known shape of a secret is written, wherever in the fields it stands."""
    stream = io.StringIO()
    configure_logging(form, "info", stream)
    StructuredLogger("s").info("x", **places(secret)[place])
    assert "CANARY" not in stream.getvalue()
    assert "***" in stream.getvalue()


@pytest.mark.parametrize("secret", CANARIES)
def test_a_cut_through_a_secret_leaves_no_part_of_it(secret: str) -> None:
    """Where a long text is cut makes no difference to what is hidden."""
    stream = io.StringIO()
    configure_logging("json", "info", stream)
    for before in range(16_350, 16_390, 3):
        StructuredLogger("s").info("x", a="x" * before + " " + secret + "x" * 100_000)
    assert "CA" not in stream.getvalue()


@pytest.mark.parametrize("secret", CANARIES)
def test_canaries_never_appear_by_other_ways(secret: str) -> None:
    """The event, bound fields, request fields, chained exceptions and the standard library too."""
    stream = io.StringIO()
    configure_logging("json", "info", stream)
    logger = StructuredLogger("s").bind(bound=secret)
    with bound_request("req", extra=secret):
        event = f"event {secret}"
        logger.info(event)
    try:
        try:
            raise KeyError(f"inner\n{secret}")
        except KeyError as inner:
            raise ValueError("outer") from inner
    except ValueError:
        logger.exception("failed")
        logging.getLogger("lib").exception("failed with %r", secret)
    assert "CANARY" not in stream.getvalue()
    assert len(stream.getvalue().splitlines()) == 3


NAMES = ["authorization", "Authorization", "api_key", "x-api-key", "X-API-Key", "password", "token"]
NAMES += ["secret", "api-key", "x-goog-api-key", "client_secret", "cookie", "access_token"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("form", ["json", "console"])
def test_fields_with_a_secrets_name_are_hidden(name: str, form: Literal["json", "console"]) -> None:
    """What stands under a secret's name is hidden, whatever its shape and wherever it stands."""
    stream = io.StringIO()
    configure_logging(form, "info", stream)
    logger = StructuredLogger("s")
    logger.info("top", **{name: "CANARY"})
    logger.info("structure", **{name: ["CANARY", {"a": "CANARY"}]})
    logger.info("nested", headers={"x": {name: "CANARY"}})
    logger.info("asgi", headers=[(name.encode(), b"CANARY")])
    logger.bind(**{name: "CANARY"}).info("bound")
    assert "CANARY" not in stream.getvalue()
    assert stream.getvalue().count("***") == 5


@pytest.mark.parametrize(
    "text",
    [
        "headers={'authorization': 'Basic CANARY'}",
        "authorization: CANARY",
        'body={"api_key": "CANARY"}',
        'body="{\\"api_key\\": \\"CANARY\\"}"',
        "GET /v1beta/models?key=CANARY&alt=sse",
        "GET /x?a=1&api_key=CANARY",
        "password=CANARY host=db",
        "('x-api-key', 'CANARY')",
        "OPENAI_API_KEY=CANARY",
        "token='CANARY'",
        "bearer   CANARY",
    ],
)
def test_texts_that_name_a_secret(text: str) -> None:
    """`name=value` and its kin in a text lose the value."""
    stream = io.StringIO()
    configure_logging("json", "info", stream)
    StructuredLogger("s").info("x", text=text)
    assert "CANARY" not in stream.getvalue()


@pytest.mark.parametrize(
    "text",
    [
        "disk-usage-report-2026",
        "task-classification-model-v2",
        "risk-assessment-large",
        "invalid_api_key",
        "input_tokens: 5, output_tokens: 7",
        "gpt-5-mini",
        "https://api.openai.com/v1/chat/completions",
        "http://user@host/path:8",
        "the key is unknown",
    ],
)
def test_innocent_texts_stay(text: str) -> None:
    """Names of models and codes of errors are not mistaken for secrets."""
    assert redact(text) == text


def test_the_kind_of_secret_stays_readable() -> None:
    """Who reads the line learns what was there."""
    assert redact("sk-ant-abcdefgh") == "sk-ant-***"
    assert redact("sk-lp-id-abcdefgh") == "sk-lp-***"
    assert redact("Authorization: Bearer abc") == "Authorization: ***"
    assert redact("redis://u:p@h/0") == "redis://***@h/0"


@pytest.mark.parametrize("secret", CANARIES)
def test_the_quick_look_sees_whatever_the_thorough_one_would_hide(secret: str) -> None:
    """No text that redaction would change passes as safe."""
    for fields in places(secret).values():
        for value in fields.values():
            if isinstance(value, str):
                assert not looks_safe(value)


@pytest.mark.parametrize(
    "text",
    [
        "secret_" * 2_300,
        "token" + " " * 16_000,
        "api_key\\" * 2_000,
        "://a" * 4_000,
        "bearer " * 2_300,
    ],
)
def test_no_text_makes_redaction_slow(text: str) -> None:
    """A hostile text of the greatest length that is looked at costs milliseconds, not seconds."""
    began = time.process_time()
    redact(text)
    assert time.process_time() - began < 0.5
