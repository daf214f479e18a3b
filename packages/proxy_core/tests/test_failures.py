from __future__ import annotations

import json
import time
from datetime import UTC, datetime, timedelta, timezone
from email.utils import format_datetime, formatdate
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy_core._failures import (
    MAX_MESSAGE,
    failure_from_answer,
    failure_in_body,
    retry_after_of,
)
from proxy_core.errors import (
    UpstreamError,
    UpstreamFailed,
    UpstreamModelMissing,
    UpstreamProtocolError,
    UpstreamRefusedCredential,
    UpstreamRejected,
    UpstreamThrottled,
)


def answer(status: int, error: Any = None, *headers: tuple[bytes, bytes]) -> UpstreamError:
    return failure_from_answer(status, headers, json.dumps({"error": error}).encode())


@pytest.mark.parametrize(
    ("status", "code", "kind", "reason", "verdict"),
    [
        (400, None, UpstreamRejected, "", "succeeded"),
        (400, "context_length_exceeded", UpstreamRejected, "context_length", "succeeded"),
        (400, "content_policy_violation", UpstreamRejected, "content_policy", "succeeded"),
        (400, "content_filter", UpstreamRejected, "content_policy", "succeeded"),
        (415, None, UpstreamRejected, "", "succeeded"),
        (405, None, UpstreamFailed, "error", "failed"),
        (407, None, UpstreamFailed, "error", "failed"),
        (409, None, UpstreamFailed, "error", "failed"),
        (410, None, UpstreamFailed, "error", "failed"),
        (421, None, UpstreamFailed, "error", "failed"),
        (425, None, UpstreamFailed, "error", "failed"),
        (426, None, UpstreamFailed, "error", "failed"),
        (431, None, UpstreamFailed, "error", "failed"),
        (499, None, UpstreamFailed, "error", "failed"),
        (400, "invalid_api_key", UpstreamRefusedCredential, "error", "let_go"),
        (400, "authentication_error", UpstreamRefusedCredential, "error", "let_go"),
        (413, None, UpstreamRejected, "", "succeeded"),
        (422, None, UpstreamRejected, "", "succeeded"),
        (401, "invalid_api_key", UpstreamRefusedCredential, "error", "let_go"),
        (402, None, UpstreamRefusedCredential, "error", "let_go"),
        (403, None, UpstreamRefusedCredential, "error", "let_go"),
        (429, "insufficient_quota", UpstreamRefusedCredential, "error", "let_go"),
        (400, "billing_hard_limit_reached", UpstreamRefusedCredential, "error", "let_go"),
        (429, "rate_limit_exceeded", UpstreamThrottled, "error", "let_go"),
        (429, None, UpstreamThrottled, "error", "let_go"),
        (404, "model_not_found", UpstreamModelMissing, "error", "let_go"),
        (408, None, UpstreamFailed, "error", "failed"),
        (500, None, UpstreamFailed, "error", "failed"),
        (503, "overloaded_error", UpstreamFailed, "error", "failed"),
        (529, None, UpstreamFailed, "error", "failed"),
        (599, None, UpstreamFailed, "error", "failed"),
        (201, None, UpstreamProtocolError, "error", "failed"),
        (204, None, UpstreamProtocolError, "error", "failed"),
        (302, None, UpstreamProtocolError, "error", "failed"),
        (101, None, UpstreamProtocolError, "error", "failed"),
    ],
)
def test_a_status_and_a_code_say_what_happened(
    status: int, code: str | None, kind: type[UpstreamError], reason: str, verdict: str
) -> None:
    """Each refusal is one error of ours, which knows its fallback and its verdict."""
    failure = answer(status, {"message": "m", "type": "t", "code": code})
    assert type(failure) is kind
    assert (failure.upstream_status, failure.reason, failure.verdict) == (status, reason, verdict)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ({"code": "rate_limit_exceeded"}, UpstreamThrottled),
        ({"type": "rate_limit_error"}, UpstreamThrottled),
        ({"code": 429}, UpstreamThrottled),
        ({"code": "503"}, UpstreamFailed),
        ({"code": 404}, UpstreamModelMissing),
        ({"code": 400, "type": "exceed_context_size_error"}, UpstreamRejected),
        ({"type": "invalid_request_error"}, UpstreamRejected),
        ({"code": "insufficient_quota"}, UpstreamRefusedCredential),
        ({"type": "authentication_error"}, UpstreamRefusedCredential),
        ({"type": "overloaded_error"}, UpstreamFailed),
        ({"code": 200}, UpstreamFailed),
        ({"code": "9" * 5000}, UpstreamFailed),
        ({"code": True}, UpstreamFailed),
        ({"code": ["x"]}, UpstreamFailed),
        ({}, UpstreamFailed),
        ([], UpstreamFailed),
        (7, UpstreamFailed),
        ("text", UpstreamFailed),
    ],
)
def test_an_error_inside_an_answer_says_it_by_its_code(
    error: Any, kind: type[UpstreamError]
) -> None:
    """There is no status, so the code or the type tells; what tells nothing has failed."""
    failure = failure_in_body(json.dumps(error).encode())
    assert type(failure) is kind
    assert failure.message


@pytest.mark.parametrize(
    "error",
    [
        {"code": 400, "type": "exceed_context_size_error", "message": "the request is too long"},
        {"code": 400, "type": "BadRequestError", "message": "the maximum context length is 8192"},
        {"message": "the request exceeds the available context size, try increasing it"},
        {"code": "context_length_exceeded", "message": "m"},
    ],
)
def test_a_full_context_is_known_by_code_type_or_words(error: dict[str, Any]) -> None:
    """vLLM and llama.cpp have the status as code; a larger model may still be asked."""
    assert answer(400, error).reason == "context_length"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b'{"error":{"message":"nested"}}', "nested"),
        (b'{"error":"a string"}', "a string"),
        (b'{"object":"error","message":"flat","code":400}', "flat"),
        (b'{"detail":"from FastAPI"}', "from FastAPI"),
        (b'{"detail":[{"loc":["body"]}]}', '[{"loc":["body"]}]'),
        (b'[{"error":{"message":"in a list"}}]', "in a list"),
        (b'{"error":{"message":{"a":1}}}', '{"a":1}'),
        (b"", "the upstream answered 400"),
        (b"<html>Bad Gateway</html>", "the upstream answered 400"),
        (b"null", "the upstream answered 400"),
        (b"[]", "the upstream answered 400"),
        (b'{"error":null}', "the upstream answered 400"),
        (b'{"error":{"message":7e400}}', "the upstream answered 400"),
        (b'{"error":{"message":"\xff"}}', "the upstream answered 400"),
        (b'{"error":{"message":"cut', "the upstream answered 400"),
        (bytes(range(256)) * 100, "the upstream answered 400"),
        (b"[" * 60_000, "the upstream answered 400"),
        (b'{"error":{"message":"' + b"x" * 60_000 + b'"}}', "x" * MAX_MESSAGE),
    ],
)
def test_the_message_is_the_upstreams_where_it_can_be_read(body: bytes, message: str) -> None:
    """In each of the shapes that are about; else the status; 2,000 characters at most."""
    assert failure_from_answer(400, [], body).message == message


@pytest.mark.parametrize("status", [401, 402, 403])
def test_nothing_of_a_refused_credential_is_told(status: int) -> None:
    """The upstream's text, code and param may quote our key: none of them goes on."""
    secret = "sk-proj-abc123"
    failure = answer(
        status, {"message": f"Bad key {secret}", "code": secret, "type": secret, "param": secret}
    )
    told = f"{failure!r} {vars(failure)}"
    assert secret not in told and "Bad key" not in told
    assert str(status) in failure.message


def test_a_known_code_of_a_refused_credential_is_told() -> None:
    """The operator reads whether the key is wrong or the account is empty."""
    failure = answer(429, {"message": "m", "code": "insufficient_quota"})
    assert failure.upstream_code == "insufficient_quota"
    assert "(429 insufficient_quota)" in failure.message


@pytest.mark.parametrize("status", [500, 501, 503])
@pytest.mark.parametrize(
    ("error", "reason"),
    [
        ({"code": 500, "type": "server_error", "message": "image input is not supported"}, ""),
        ({"code": 500, "message": "Audio input is not supported - hint: mmproj"}, ""),
        (
            {
                "code": 500,
                "type": "server_error",
                "message": "input is too large to process. increase the physical batch size",
            },
            "context_length",
        ),
        ({"code": 500, "type": "invalid_request_error", "message": "no"}, ""),
        ({"code": 501, "type": "not_supported_error", "message": "no"}, ""),
    ],
)
def test_a_server_that_says_500_for_a_wrong_request(
    status: int, error: dict[str, Any], reason: str
) -> None:
    """llama.cpp does: the endpoint is well, another would say the same, the client gets a 400."""
    for failure in (answer(status, error), failure_in_body(json.dumps(error).encode())):
        assert type(failure) is UpstreamRejected
        assert failure.message == error["message"]
        assert (failure.upstream_status, failure.reason) == (400, reason)
        assert (failure.retryable, failure.verdict) == (False, "succeeded")


GOOGLES_WAIT = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "12.5s"}
GOOGLES_KEY = {
    "@type": "type.googleapis.com/google.rpc.ErrorInfo",
    "reason": "API_KEY_INVALID",
    "domain": "googleapis.com",
}


@pytest.mark.parametrize(
    ("status", "headers", "body", "kind", "code", "retry_after"),
    [
        (  # https://platform.claude.com/docs/en/api/errors
            529,
            {},
            {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}},
            UpstreamFailed,
            "overloaded_error",
            None,
        ),
        (
            400,
            {},
            {
                "type": "error",
                "error": {
                    "type": "invalid_request_error",
                    "message": "prompt is too long: 204612 tokens > 200000 maximum",
                },
            },
            UpstreamRejected,
            "context_length_exceeded",
            None,
        ),
        (
            400,
            {},
            {
                "type": "error",
                "error": {
                    "type": "invalid_request_error",
                    "message": "Your credit balance is too low to access the Anthropic API.",
                },
            },
            UpstreamRefusedCredential,
            "invalid_request_error",
            None,
        ),
        (
            400,
            {},
            {
                "type": "error",
                "error": {
                    "type": "invalid_request_error",
                    "message": "Output blocked by content filtering policy",
                },
            },
            UpstreamRejected,
            "content_policy_violation",
            None,
        ),
        (  # https://ai.google.dev/gemini-api/docs/troubleshooting
            429,
            {},
            {
                "error": {
                    "code": 429,
                    "message": "You exceeded your current quota.",
                    "status": "RESOURCE_EXHAUSTED",
                    "details": [GOOGLES_WAIT],
                }
            },
            UpstreamThrottled,
            "RESOURCE_EXHAUSTED",
            12.5,
        ),
        (
            400,
            {},
            [
                {
                    "error": {
                        "code": 400,
                        "message": "API Key not found. Please pass one.",
                        "status": "INVALID_ARGUMENT",
                        "details": [GOOGLES_KEY],
                    }
                }
            ],
            UpstreamRefusedCredential,
            "API_KEY_INVALID",
            None,
        ),
        (
            400,
            {},
            {
                "error": {
                    "code": 400,
                    "message": "The input token count (1200000) exceeds the maximum number of "
                    "tokens allowed (1048576).",
                    "status": "INVALID_ARGUMENT",
                }
            },
            UpstreamRejected,
            "context_length_exceeded",
            None,
        ),
        (  # https://docs.aws.amazon.com/bedrock/latest/userguide/troubleshooting-api-error-codes.html
            429,
            {"x-amzn-errortype": "ThrottlingException:http://internal.amazon.com/"},
            {"message": "Too many tokens, please wait before trying again."},
            UpstreamThrottled,
            "ThrottlingException",
            None,
        ),
        (
            400,
            {"x-amzn-errortype": "ServiceQuotaExceededException"},
            {"Message": "quota"},
            UpstreamThrottled,
            "ServiceQuotaExceededException",
            None,
        ),
        (
            400,
            {},
            {"__type": "com.amazon#ValidationException", "message": "Input is too long."},
            UpstreamRejected,
            "context_length_exceeded",
            None,
        ),
        (
            400,
            {"x-amzn-errortype": "ValidationException"},
            {"message": "The provided model identifier is invalid."},
            UpstreamModelMissing,
            None,
            None,
        ),
        (
            403,
            {"x-amzn-errortype": "AccessDeniedException"},
            {"message": "no access"},
            UpstreamRefusedCredential,
            "AccessDeniedException",
            None,
        ),
        (
            408,
            {"x-amzn-errortype": "ModelTimeoutException"},
            {"message": "timeout"},
            UpstreamFailed,
            "ModelTimeoutException",
            None,
        ),
        (  # https://docs.cohere.com/reference/errors
            400,
            {},
            {"message": "too many tokens: total number of tokens in the prompt cannot exceed 4081"},
            UpstreamRejected,
            "context_length_exceeded",
            None,
        ),
        (404, {}, {"error": "model 'x' not found"}, UpstreamModelMissing, None, None),
    ],
)
def test_each_provider_says_it_in_its_own_shape(
    status: int,
    headers: dict[str, str],
    body: Any,
    kind: type[UpstreamError],
    code: str | None,
    retry_after: float | None,
) -> None:
    """Anthropic, Google, Amazon, Cohere and Ollama: the same errors of ours."""
    told = [(name.encode(), value.encode()) for name, value in headers.items()]
    failure = failure_from_answer(status, told, json.dumps(body).encode())
    assert type(failure) is kind
    assert (failure.upstream_code, failure.retry_after) == (code, retry_after)


def test_what_a_header_says_comes_before_the_body() -> None:
    """The seconds to wait, where both are told."""
    body = json.dumps({"error": {"code": 429, "details": [GOOGLES_WAIT]}}).encode()
    assert failure_from_answer(429, [(b"retry-after", b"3")], body).retry_after == 3


@pytest.mark.parametrize("status", [400, 500])
@pytest.mark.parametrize(
    "words",
    [
        "Incorrect API key provided: sk-abc",
        "the Invalid API Key sk-abc",
        "API key not valid. Please pass a valid API key, not sk-abc.",
    ],
)
def test_a_400_that_blames_the_key_is_ours(status: int, words: str) -> None:
    """Some have no 401: another deployment is asked, and nothing of the text is told."""
    failure = answer(status, {"message": words, "type": "invalid_request_error", "param": "sk-abc"})
    assert type(failure) is UpstreamRefusedCredential
    assert "sk-abc" not in f"{failure!r} {vars(failure)}"


def test_the_upstreams_name_for_a_model_is_not_told() -> None:
    """The client asked for another one."""
    name = "acme/secret-model"
    failure = answer(404, {"message": f"no {name}", "code": name, "param": name})
    assert failure.message == "the upstream does not serve this model"
    assert name not in f"{failure!r} {vars(failure)}"


MISSING = {
    "openai": {
        "message": "The requested model 'x' does not exist.",
        "type": "invalid_request_error",
        "param": "model",
        "code": "model_not_found",
    },
    # https://platform.claude.com/docs/en/api/errors
    "anthropic": {"type": "not_found_error", "message": "model: claude-x"},
    "gemini": {
        "code": 404,
        "message": "models/x is not found for API version v1beta, or is not supported for it.",
        "status": "NOT_FOUND",
    },
    "vertex": {
        "code": 404,
        "message": "Publisher Model `projects/p/locations/l/publishers/google/models/x` not found.",
        "status": "NOT_FOUND",
    },
    "bedrock": {"__type": "ResourceNotFoundException", "message": "This version has ended."},
    "azure": {"code": "DeploymentNotFound", "message": "The API deployment does not exist."},
    "vllm": {"message": "The model `file-1` does not exist.", "type": "NotFoundError", "code": 404},
    "llama.cpp, of a path": {"code": 404, "message": "File Not Found", "type": "not_found_error"},
    "fastapi, of a path": "Not Found",
    "nothing": None,
}
MENTIONED: dict[str, tuple[dict[str, Any], int]] = {
    # https://platform.claude.com/docs/en/build-with-claude/files
    "anthropic": ({"type": "not_found_error", "message": "File not found: file_123"}, 404),
    "of a container": ({"type": "not_found_error", "message": "no container_01Ab2 here"}, 404),
    "of a thread": (
        {
            "type": "not_found_error",
            "message": "No usable state for this model's thread.",
            "details": {"error_code": "thread_not_found"},
        },
        404,
    ),
    # https://platform.openai.com/docs/api-reference/responses
    "openai": (
        {
            "message": "Item with id 'rs_1' not found. Items are not persisted when `store` is"
            " set to false.",
            "type": "invalid_request_error",
            "param": "input",
            "code": None,
        },
        404,
    ),
    "of a file": ({"message": "No such File object: abc", "param": "id", "code": None}, 404),
    # https://ai.google.dev/gemini-api/docs/files
    "gemini": (
        {
            "code": 403,
            "message": "You do not have permission to access the File abc or it may not exist.",
            "status": "PERMISSION_DENIED",
        },
        403,
    ),
    "of a cache": (
        {
            "code": 403,
            "message": "CachedContent not found (or permission denied)",
            "status": "PERMISSION_DENIED",
        },
        403,
    ),
}


@pytest.mark.parametrize("who", list(MISSING))
def test_a_404_without_more_is_about_the_model(who: str) -> None:
    """Another deployment may have it, or the path; the upstream's own words stay here."""
    failure = answer(404, MISSING[who])
    assert type(failure) is UpstreamModelMissing
    assert failure.message == "the upstream does not serve this model"


def test_openais_responses_miss_a_model_with_400() -> None:
    """The code counts, not the status."""
    assert type(answer(400, MISSING["openai"])) is UpstreamModelMissing


@pytest.mark.parametrize("who", list(MENTIONED))
def test_what_the_request_names_and_nobody_has_is_the_clients(who: str) -> None:
    """A file, an item, a thread: its words reach the client, and nobody else is asked."""
    error, status = MENTIONED[who]
    failure = answer(status, error)
    assert type(failure) is UpstreamRejected
    assert (failure.message, failure.upstream_status) == (error["message"], status)
    assert not failure.retryable and not failure.reason


DETAILS = {"error_code": "thread_unsupported_request", "unsupported": ["tools"], "n": 3}


def test_anthropics_details_are_kept_and_give_the_code() -> None:
    """Whole, in an answer and in a stream; words that say more keep their own code."""
    error = {"type": "invalid_request_error", "message": "no", "details": DETAILS}
    for failure in (answer(400, error), failure_in_body(json.dumps(error).encode())):
        assert failure.details == DETAILS
        assert failure.upstream_code == "thread_unsupported_request"
    assert answer(400, {**error, "message": "prompt is too long"}).reason == "context_length"


@pytest.mark.parametrize(
    "more", [{"x": "y" * MAX_MESSAGE}, {"x": {"deep": []}}, {"x": [[1]]}, {"x": ["y"] * 999}]
)
def test_of_long_or_deep_details_the_code_is_kept(more: dict[str, Any]) -> None:
    """2,000 bytes of JSON, and no more than lists of scalars."""
    error = {"type": "api_error", "details": {"error_code": "c" * 65, **more}}
    assert answer(500, error).details == {"error_code": "c" * 64}


@pytest.mark.parametrize("details", [None, [], {}, {"error_code": 7}, {"code": "x"}, "x"])
def test_other_details_are_not_anthropics(details: Any) -> None:
    """Without an ``error_code`` there is nothing that its clients look for."""
    assert answer(400, {"message": "m", "type": "t", "details": details}).details is None


@pytest.mark.parametrize("status", [401, 404])
def test_details_of_what_is_ours_are_not_told(status: int) -> None:
    """They are about our credential, or the upstream's name for the model."""
    details = {"error_code": "model_gone", "key": "sk-1"}
    assert answer(status, {"message": "m", "details": details}).details is None


def test_code_and_param_have_a_length() -> None:
    """64 and 256 characters; a code that is cut is no other code."""
    failure = answer(400, {"message": "m", "code": "c" * 65, "param": "p" * 257})
    assert (failure.upstream_code, failure.param) == ("c" * 64, "p" * 256)
    assert answer(400, {"message": "m", "type": "t" * 65}).upstream_code == "t" * 64


def test_code_and_param_are_kept_for_the_client() -> None:
    """They are what SDKs look at."""
    failure = answer(400, {"message": "m", "type": "t", "code": "c", "param": "top_p"})
    assert (failure.upstream_code, failure.param) == ("c", "top_p")
    assert answer(400, {"message": "m", "type": "t"}).upstream_code == "t"
    assert answer(400, {"message": "m", "param": 7}).param is None


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ([], None),
        ([(b"retry-after", b"7")], 7.0),
        ([(b"retry-after", b" 0.5 ")], 0.5),
        ([(b"retry-after-ms", b"250")], 0.25),
        ([(b"retry-after-ms", b"1500.5"), (b"retry-after", b"9")], 1.5005),
        ([(b"retry-after-ms", b"soon"), (b"retry-after", b"9")], 9.0),
        ([(b"retry-after", b"0")], 0.0),
        ([(b"retry-after", b"99999999999")], 30 * 86400.0),
        ([(b"retry-after", b"Wed, 21 Oct 2015 07:28:00 GMT")], 0.0),
        ([(b"retry-after", b"Fri, 31 Dec 9999 23:59:59 GMT")], 30 * 86400.0),
        ([(b"retry-after", b"")], None),
        ([(b"retry-after", b"-5")], None),
        ([(b"retry-after", b"1e9")], None),
        ([(b"retry-after", b"inf")], None),
        ([(b"retry-after", b"9" * 400)], None),
        ([(b"retry-after", b"soon")], None),
        ([(b"retry-after", b"\xff\xfe")], None),
        ([(b"retry-after", b"Wed, 99 Foo 2015 77:28:00 GMT")], None),
        ([(b"x-retry-after", b"5")], None),
    ],
)
def test_retry_after_in_its_forms(
    headers: list[tuple[bytes, bytes]], seconds: float | None
) -> None:
    """Milliseconds first, then seconds or a date; a month at most, and nonsense is nothing."""
    assert retry_after_of(headers) == seconds
    assert failure_from_answer(429, headers, b"").retry_after == seconds


@pytest.mark.parametrize(
    "date",
    [
        lambda at: formatdate(at, usegmt=True),
        lambda at: formatdate(at).replace("-0000", ""),
        lambda at: format_datetime(datetime.fromtimestamp(at, timezone(timedelta(hours=5)))),
        lambda at: format_datetime(datetime.fromtimestamp(at, UTC)),
    ],
)
def test_a_date_is_counted_from_now(date: Any) -> None:
    """With or without a zone, which is then UTC; whatever zone this machine is in."""
    wait = retry_after_of([(b"retry-after", date(time.time() + 100).encode())])
    assert wait is not None
    assert 95 < wait <= 100


@given(
    value=st.one_of(
        st.binary(max_size=40),
        st.from_regex(
            r"[A-Z][a-z]{2}, \d+ [A-Z][a-z]{2} \d+ \d+:\d+:\d+ [+-]?\w*", fullmatch=True
        ).map(lambda text: text.encode("latin-1", "replace")),
    )
)
def test_no_retry_after_breaks_anything(value: bytes) -> None:
    """Any bytes give seconds within a month, or None."""
    for name in (b"retry-after", b"retry-after-ms"):
        wait = retry_after_of([(name, value)])
        assert wait is None or 0 <= wait <= 30 * 86400


JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text()),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.sampled_from(["error", "message", "code", "type", "param"]), inner),
    ),
    max_leaves=6,
)


@given(status=st.integers(100, 999), value=JSON, damage=st.binary(max_size=3))
def test_any_body_gives_an_error_of_ours(status: int, value: Any, damage: bytes) -> None:
    """Whatever an upstream sends with a refusal, there is one UpstreamError with a message."""
    body = json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass") + damage
    for failure in (failure_from_answer(status, [], body), failure_in_body(body)):
        assert isinstance(failure, UpstreamError)
        assert 0 < len(failure.message) <= MAX_MESSAGE
