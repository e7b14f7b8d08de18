"""What can go wrong, as types.

A record's fault is a value (`Rejected`) and never stops its batch; a mistake in a configuration is a value (`Problem`),
so that all of them can be reported. A system's fault is an exception whose type says what to do.

    MuseError                  shown as one line, exit code 1
    |- ConfigError             the document is refused whole; carries every Problem found           exit code 2
    |- ModelError              an ONNX artifact is refused
    |- SchemaError             an Avro schema is unknown or cannot be used
    |  `- SchemaPending        a Schema Registry has not answered yet: what was written with it waits
    |- RegistryError           a Schema Registry refuses, or does not answer
    |- StoreError              the generation store cannot be read or written
    `- StreamError             Kafka
       |- Retriable            call the same thing again, inside one deadline
       |- Abortable            abort, throw the producers away, rewind to committed()
       `- Fatal                leave the process with a non-zero code; the supervisor restarts it
          `- Fenced            another holds the transactional id; survived a few times
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum


class MuseError(Exception):
    """Root of every error this package raises on purpose; its text is meant for a person."""

    exit_code = 1


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake in a configuration: where it is, what is wrong, what would be right."""

    path: str
    """Dotted path in the document, e.g. `predictors.cards.experts[1].model`."""
    message: str
    hint: str = ""
    line: int | None = None
    """Line in the file, counted from 1."""
    file: str = ""

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}: " if self.line else (f"{self.file}: " if self.file else "")
        return f"{place}{self.path}: {self.message}" + (f" ({self.hint})" if self.hint else "")


class ConfigError(MuseError):
    """A configuration was refused; `problems` holds every mistake that was found, never only the first."""

    exit_code = 2

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))

    def __reduce__(self) -> tuple[type, tuple[object, ...]]:
        return type(self), (self.problems,)  # between processes it stays what it was made of


class ModelError(MuseError):
    """An ONNX artifact was refused: wrong hash, external data, custom operators, not a probability."""


class SchemaError(MuseError):
    """An Avro schema is unknown, malformed, or cannot be resolved against the reader's."""


class SchemaPending(SchemaError):
    """A Schema Registry has not said yet what a schema is; what was written with it can wait, and must not be lost."""

    def __init__(
        self,
        message: str,
        ready: Callable[[], bool],
        *,
        rows: Sequence[int] = (),
        topics: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.ready = ready
        """Whether it is known by now."""
        self.rows = tuple(rows)
        """Rows of the batch that were written with it."""
        self.topics = dict(topics or {})
        """Event topics of these rows, and what is awaited for each."""


class RegistryError(MuseError):
    """A Schema Registry refuses what it was asked, or cannot be reached."""


class StoreError(MuseError):
    """The generation store cannot be read or written, or its content does not match its hash."""


class StreamError(MuseError):
    """Kafka did not do what was asked; the subclass says what to do about it (table: kafka/errors.py)."""

    def __init__(self, message: str, *, topic: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.topic = topic
        """The topic it is about, where Kafka says so."""
        self.code = code
        """Kafka's name of the error, e.g. `MSG_SIZE_TOO_LARGE`."""


class Retriable(StreamError):
    """Call the same operation again, inside one deadline."""


class Abortable(StreamError):
    """The transaction is lost: abort it, build new producers, rewind to the committed offsets."""


class Fatal(StreamError):
    """This process cannot go on; it exits non-zero and its supervisor starts another."""


class Fenced(Fatal):
    """Another producer holds the transactional id now; a transaction that timed out looks the same."""


class Reason(StrEnum):
    """Why a record became a dead letter, written to its `muse.reason` header."""

    UNDECODABLE = "undecodable"
    UNKNOWN_SCHEMA = "unknown-schema"
    MISSING_ID = "missing-id"
    TIME_OUT_OF_RANGE = "time-out-of-range"
    UNKNOWN_TENANT = "unknown-tenant"
    WRONG_TENANT = "wrong-tenant"
    NO_ROUTE = "no-route"
    MISSING_FEATURE = "missing-feature"
    INEXACT_FEATURE = "inexact-feature"
    NON_FINITE = "non-finite-score"
    SCORING_ERROR = "scoring-error"
    OVERSIZE = "oversize"
    REFUSED = "refused"
    PROCESS_DIED = "process-died"


class Stage(StrEnum):
    """Which stage met the fault, written to the `muse.stage` header of its dead letter."""

    DECODE = "decode"
    VALIDATE = "validate"
    ROUTE = "route"
    SCORE = "score"
    PUBLISH = "publish"


@dataclass(frozen=True, slots=True)
class Rejected:
    """One record that cannot be scored."""

    row: int
    """Row in the batch it came in, counted from 0."""
    reason: Reason
    stage: Stage
    message: str
    """For a person; bounded in length and free of payload."""
