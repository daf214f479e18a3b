"""JSON Schemas on their way to Claude, whose objects must be closed."""

from __future__ import annotations

import json
from datetime import datetime
from enum import Enum
from typing import Annotated, Any, Literal

import pytest
from anthropic import transform_schema
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import AnyUrl, BaseModel, ConfigDict, Field, RootModel, TypeAdapter

from proxy_core.dialects import CLIENT_CODECS, CODECS
from proxy_core.dialects._abilities import Abilities
from proxy_core.dialects._anthropic._schema import closed_schema
from proxy_core.dialects._codec import Losses
from proxy_core.providers._models import abilities_of

CLAUDE = abilities_of("anthropic", "anthropic.messages", "claude-sonnet-4-5")
OTHER = abilities_of("bedrock", "bedrock.converse", "amazon.nova-pro-v1:0")
GOOGLES = {
    "type": "OBJECT",
    "properties": {
        "name": {"type": "STRING", "minLength": "2", "nullable": True},
        "all": {"type": "ARRAY", "minItems": "3", "items": {"type": "OBJECT", "properties": {}}},
    },
    "required": ["name"],
    "propertyOrdering": ["name", "all"],
}


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class Inner(BaseModel):
    """Words of its own."""

    at: datetime
    site: AnyUrl | None = None
    tags: list[str] = Field(min_length=2, max_length=5)


class Outer(BaseModel):
    model_config = ConfigDict(title="Out")
    size: Annotated[int, Field(ge=1, lt=9, multiple_of=2, description="How large.")]
    name: str = Field(min_length=1, pattern="^a", examples=["ab"])
    colour: Colour = Colour.RED
    kind: Literal["x"] = "x"
    inner: Inner
    many: list[Inner] = Field(default=[], min_length=1)
    pair: tuple[int, str]
    either: Annotated[Inner | str | None, Field(description="One of them.")] = None
    labels: dict[str, int] = {}


class Rows(RootModel[list[Inner]]):
    pass


class Free(BaseModel):
    model_config = ConfigDict(extra="allow")
    a: bytes


@pytest.mark.parametrize("model", [Inner, Outer, Rows, Free])
def test_a_schema_goes_out_as_anthropic_s_own_sdk_would_send_it(model: type[BaseModel]) -> None:
    """Closed at every depth, and what can't be demanded is told in words."""
    schema = model.model_json_schema()
    before = json.dumps(schema)
    closed = closed_schema(schema, "response_format.schema", Losses())
    assert closed == transform_schema(model)
    assert json.dumps(schema) == before
    assert closed_schema(closed, "response_format.schema", Losses()) == closed


def told(schema: Any) -> list[str]:
    losses = Losses()
    closed_schema(schema, "f", losses)
    assert not [loss for loss in losses.all if loss.grave or loss.field != "f"]
    return [loss.why for loss in losses.all]


@pytest.mark.parametrize(
    ("schema", "why"),
    [
        ({"type": "object", "properties": {"a": {"type": "integer", "default": 3}}}, []),
        ({"$schema": "x", "type": ["string", "null"], "format": "date"}, []),
        ({"type": "object"}, ["named fields alone"]),
        ({"type": "object", "properties": {}, "additionalProperties": {}}, ["named fields alone"]),
        ({"type": "string", "format": "path", "maxLength": 3}, ["to format, maxLength:"]),
    ],
)
def test_what_is_demanded_no_more_is_announced(schema: Any, why: list[str]) -> None:
    """A map without named fields, or a keyword, is a loss; a default never was a demand."""
    found = told(schema)
    assert len(found) == len(why)
    assert all(words in one for words, one in zip(why, found, strict=True))


def test_a_type_of_several_keeps_them() -> None:
    """OpenAI's way to say that a value may be null, which Anthropic takes too."""
    schema = {"type": ["object", "null"], "properties": {"a": {"type": ["array", "null"]}}}
    assert closed_schema(schema, "f", Losses()) == {**schema, "additionalProperties": False}


SCALARS = st.none() | st.booleans() | st.integers(0, 2) | st.sampled_from(["object", "date", ""])
UNIONS = ("$defs", "$ref", "anyOf", "allOf", "enum", "const")
OTHERS = ("type", "properties", "required", "additionalProperties", "items", "minItems", "format")
NAMES = st.sampled_from((*UNIONS, *OTHERS))


@settings(max_examples=50, deadline=None)
@given(
    st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner))
)
def test_whatever_json_a_client_sends_is_no_crash(schema: Any) -> None:
    """It stays JSON, and the upstream judges it."""
    assert json.dumps(closed_schema(schema, "f", Losses()))


ASKED = {
    "gemini.generate": {
        "model": "m",
        "contents": [{"parts": [{"text": "Hi"}]}],
        "generationConfig": {"responseMimeType": "application/json", "responseSchema": GOOGLES},
    },
    "openai.responses": {
        "model": "m",
        "input": "Hi",
        "text": {
            "format": {
                "type": "json_schema",
                "name": "x",
                "schema": TypeAdapter(Inner).json_schema(),
            }
        },
        "tools": [
            {
                "type": "function",
                "name": "f",
                "strict": strict,
                "parameters": {"properties": {"a": {"type": "integer", "minimum": 1}}},
            }
            for strict in (True, False)
        ],
    },
}


def sent(client: str, upstream: str, can: Abilities) -> tuple[dict[str, Any], list[str]]:
    losses = Losses()
    asked = CLIENT_CODECS[client].read_request(ASKED[client], losses)
    body = CODECS[upstream].write_request(asked, "m", can, losses)
    return body, [loss.field for loss in losses.all]


def test_google_s_schema_is_closed_for_claude() -> None:
    """google-genai never says that an object is closed, and Anthropic refuses one that isn't."""
    body, lost = sent("gemini.generate", "anthropic.messages", CLAUDE)
    schema = body["output_config"]["format"]["schema"]
    assert schema["additionalProperties"] is False
    assert schema["properties"]["all"]["items"]["additionalProperties"] is False
    assert schema["properties"]["all"]["description"] == "{minItems: 3}"
    assert schema["properties"]["name"]["type"] == ["string", "null"]
    assert lost == ["response_format.schema"]


def test_a_strict_tool_is_closed_for_claude_and_no_other() -> None:
    """What is held to its schema must be closed; a free tool keeps its own."""
    body, lost = sent("openai.responses", "anthropic.messages", CLAUDE)
    strict, free = (tool["input_schema"] for tool in body["tools"])
    assert strict == transform_schema({"type": "object", **free})
    assert "additionalProperties" not in free
    assert lost == ["tools[0].parameters", "response_format.schema"]


def test_converse_closes_for_claude_alone() -> None:
    """On Bedrock each model's own rules count."""
    claude = abilities_of("bedrock", "bedrock.converse", "anthropic.claude-sonnet-4-5-v1:0")
    for can, closed in ((claude, True), (OTHER, False)):
        body, _ = sent("openai.responses", "bedrock.converse", can)
        form = body["outputConfig"]["textFormat"]["structure"]["jsonSchema"]
        assert ("additionalProperties" in json.loads(form["schema"])) is closed
        strict = body["toolConfig"]["tools"][0]["toolSpec"]["inputSchema"]["json"]
        assert ("additionalProperties" in strict) is closed
