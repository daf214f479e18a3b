"""Which path is which surface: those of each provider's SDK, and what people make of base URLs.

A path without a model in it is looked up whole. Google and Azure put the model into the path;
those paths are found by how they begin and end.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Final, NamedTuple
from urllib.parse import parse_qs

from starlette.types import Scope

from proxy_api._arrival import Arrival
from proxy_api._error_shapes import OPENAI
from proxy_api._face import Face, face_of
from proxy_api._raw import RAW_BASE, RawArrival
from proxy_api._response import HasSnapshot, Surface
from proxy_api._responses import ResponsesArrival
from proxy_api._sending import ArraySending
from proxy_api._shared_state import MessagesArrival
from proxy_api._stored import STORED_ROUTES, StoredArrival, StoredSending
from proxy_api._uploads import UploadArrival
from proxy_core.dialects import DIALECTS, UPLOADS
from proxy_logging import StructuredLogger

__all__ = ["MODEL_LISTS", "ModelPath", "Other", "Surfaces", "make_surfaces", "missing_operation"]

_PATHS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "/v1/chat/completions": "openai.chat",
        "/v1/completions": "openai.completions",
        "/v1/embeddings": "openai.embeddings",
        "/v1/responses": "openai.responses",
        "/v1/moderations": "openai.moderations",
        "/v1/images/generations": "openai.images",
        "/v1/images/edits": "openai.image_edits",
        "/v1/images/variations": "openai.image_variations",
        "/v1/audio/speech": "openai.speech",
        "/v1/audio/transcriptions": "openai.transcriptions",
        "/v1/audio/translations": "openai.translations",
        "/v1/rerank": "rerank",
        "/v1/messages": "anthropic.messages",
        "/v1/messages/count_tokens": "anthropic.count_tokens",
    }
)
_OTHER_BASES: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        # A base URL without its /v1; Azure's two.
        "openai": ("", "/openai/v1", "/openai"),
        # A base URL without /v1 is right for Anthropic's SDK; one with it doubles it.
        "anthropic": ("", "/v1/v1"),
        # Cohere's is at /v2.
        "rerank": ("", "/v2"),
    }
)
MODEL_LISTS: Final = (
    *("/v1/models", "/models", "/openai/v1/models", "/openai/models", "/v1/v1/models"),
    *("/v1beta/models", "/v1alpha/models", "/v1/v1beta/models"),
)
"""Where the SDKs ask for the models, by the base URLs that people give."""

_AZURE: Final = "/openai/deployments/"
_GOOGLE: Final = tuple(
    f"{base}/models/" for base in ("/v1beta", "/v1", "/v1alpha", "/v1/v1beta", "/v1/v1")
)
"""Google's SDK adds the version by itself, so a base URL with /v1 doubles it."""


_METHODS: Final = ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD")


class _Ending(NamedTuple):
    ending: str
    dialect: str
    stream: bool | None = None


_AZURE_ENDINGS: Final = tuple(
    _Ending(path.removeprefix("/v1"), _PATHS[path])
    for path in (
        *("/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/images/generations"),
        *("/v1/images/edits", "/v1/audio/speech"),
        *("/v1/audio/transcriptions", "/v1/audio/translations"),
    )
)
_ARRIVALS: Final[Mapping[str, type[Arrival]]] = MappingProxyType(
    {
        "openai.responses": ResponsesArrival,
        "anthropic.messages": MessagesArrival,
        **{dialect.name: UploadArrival for dialect in UPLOADS},
    }
)
"""How requests are read that aren't just a document."""
_GOOGLE_ENDINGS: Final = (
    _Ending(":generateContent", "gemini.generate", stream=False),
    _Ending(":streamGenerateContent", "gemini.generate", stream=True),
    _Ending(":countTokens", "gemini.count_tokens", stream=False),
)


class ModelPath(NamedTuple):
    """A path with a model between its beginning and its ending."""

    beginning: str
    ending: str
    surface: Surface
    array: Surface | None = None
    """For who asks Google's way for a stream, but not for events: ``alt=sse`` is not said."""

    @property
    def pattern(self) -> str:
        """As FastAPI writes it. The model may hold slashes."""
        return f"{self.beginning}{{model:path}}{self.ending}"

    def chosen(self, scope: Scope) -> Surface:
        """The surface for this request."""
        if self.array is None or _wants_events(scope):
            return self.surface
        return self.array


class Other(NamedTuple):
    """A route of other methods than POST, which FastAPI's router finds."""

    path: str
    methods: tuple[str, ...]
    surface: Surface
    summary: str = ""
    """Empty: the document doesn't tell of it."""
    takes: str = ""
    """The media type of the body."""


class Surfaces:
    """All hot routes, and those that aren't looked up beforehand."""

    def __init__(
        self, exact: Mapping[str, Surface], named: tuple[ModelPath, ...], others: tuple[Other, ...]
    ) -> None:
        self.exact: Final = exact
        """By the whole path."""
        self.named: Final = named
        self.others: Final = others

    def find(self, path: str) -> tuple[ModelPath, str] | None:
        """The route of a path that names a model, and the model."""
        for row in self.named:
            beginning, ending = row.beginning, row.ending
            if path.startswith(beginning) and path.endswith(ending):
                model = path[len(beginning) : -len(ending)]
                return (row, model) if model else None
        return None


def missing_operation(path: str) -> str:
    """What to tell of a path below a model of Google's that asks for what there isn't.

    Empty: the path is none of these.
    """
    below = next((path[len(base) :] for base in _GOOGLE if path.startswith(base)), "")
    model, colon, operation = below.rpartition(":")
    if not (model and colon and operation.isidentifier()):
        return ""
    known = ", ".join(row.ending[1:] for row in _GOOGLE_ENDINGS)
    hint = " Embeddings are asked for at /v1/embeddings." if "mbed" in operation else ""
    return f"There is no operation {operation!r} of the model {model!r}: a model has {known}.{hint}"


def make_surfaces(house: HasSnapshot, logger: StructuredLogger) -> Surfaces:
    """A surface for each dialect, and the paths that lead to it."""
    made: dict[tuple[str, bool | None], Surface] = {}

    def surface(dialect: str, stream: bool | None = None) -> Surface:
        at = (dialect, stream)
        if at not in made:
            arrives = _ARRIVALS.get(dialect, Arrival)
            face = face_of(DIALECTS[dialect], stream=stream)
            made[at] = Surface(face, house, logger, arrives=arrives)
        return made[at]

    named = [ModelPath(_AZURE, row.ending, surface(row.dialect)) for row in _AZURE_ENDINGS]
    for row in _GOOGLE_ENDINGS:
        events, array = surface(row.dialect, row.stream), None
        if row.stream:
            face = face_of(DIALECTS[row.dialect], stream=True)
            array = Surface(face, house, logger, sends=ArraySending)
        named += [ModelPath(beginning, row.ending, events, array) for beginning in _GOOGLE]
    exact = {path: surface(dialect) for path, dialect in _every_path()}
    return Surfaces(exact, tuple(named), tuple(_others(house, logger)))


def _others(house: HasSnapshot, logger: StructuredLogger) -> Iterator[Other]:
    # Nobody reads what is asked there, but our own errors need a shape.
    face = Face(DIALECTS["openai.chat"], "raw", OPENAI)
    raw = Surface(face, house, logger, arrives=RawArrival)
    asked = "Anything that a provider has, with its own credential; for keys that may"
    yield Other(RAW_BASE + "{name}/{path:path}", _METHODS, raw, asked)
    for route in STORED_ROUTES:
        arrives = type("_Arrival", (StoredArrival,), {"__slots__": (), "route": route})
        face = Face(DIALECTS["openai.chat"], route.kind, OPENAI)
        stored = Surface(face, house, logger, arrives=arrives, sends=StoredSending)
        for base in ("/v1", *_OTHER_BASES["openai"]):
            told = route.summary if base == "/v1" else ""
            yield Other(base + route.path, route.methods, stored, told, route.takes)


def _every_path() -> Iterator[tuple[str, str]]:
    yield from _PATHS.items()
    for path, dialect in _PATHS.items():
        for base in _OTHER_BASES[dialect.partition(".")[0]]:
            yield base + path.removeprefix("/v1"), dialect


def _wants_events(scope: Scope) -> bool:
    query: bytes = scope.get("query_string", b"")
    return parse_qs(query.decode("latin-1")).get("alt", [""])[-1] == "sse"
