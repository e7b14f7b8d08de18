"""How one field of the reader's schema is found in what a writer wrote.

Reader and writer `Type`, a dotted path and its use give a `Route`: a tree that follows the writer's records down to a
`Case` for each type that the writer may have put there.

Schema resolution as the Avro specification defines it (1.12, "Schema Resolution"), applied to the fields that are asked
for: by name or reader alias, promotions, defaults, enum defaults, unions on either side. Where only the value can tell
(a null for a reader that has none, a branch that the reader lacks) the row is refused, not the writer.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Literal, TypeAlias

from msgspec import Struct
from msgspec.structs import replace

from muse_stream.avro.schema_json import allows
from muse_stream.avro.times import TimeUnit, ratio, ratio_to_ms
from muse_stream.avro.types import Field, Type
from muse_stream.errors import SchemaError

Domain = Literal["integer", "boolean", "number", "text"]
"""What a column holds: int64, bool, float64, or a Categorical."""
Use = Literal["value", "text", "time"]
"""What a field is read for: a feature; the text of an id, a tenant or an attribute; milliseconds since 1970."""
Form = Literal["value", "decimal", "big-decimal", "utf8", "uuid", "hex"]
"""How bytes are read; everything else has one form, `value`."""

NUMERIC = ("int", "long", "float", "double")
TEXT = ("string", "bytes", "enum", "fixed")
DECIMALS = ("decimal", "big-decimal")


class Lacking(SchemaError):
    """A writer does not have a field, and the reader has no default for it."""


class Case(Struct, frozen=True):
    """What to do with a value that the writer wrote as `kind`."""

    path: str
    domain: Domain
    kind: str
    """Writer's type."""
    form: Form = "value"
    scale_by: tuple[int, int] = (1, 1)
    """Multiply an integer, then floor-divide it."""
    scale: int = 0
    """Digits after the point of a decimal, as it was written..."""
    digits: int = 0
    """...and in its text, at least."""
    saturate: bool = False
    """What does not fit after that becomes the nearest that does, instead of being refused."""
    real: Literal["", "float", "double"] = ""
    """The reader's type, where it is one of these: a number becomes one."""
    symbols: tuple[str, ...] | None = None
    """Reader's enum symbols, when a writer's symbol may be missing from them..."""
    substitute: str | None = None
    """...and the reader's enum default for it; None refuses the row."""


class Refused(Struct, frozen=True):
    """Such a value cannot be read."""

    why: str
    lacks: bool = False
    """For want of a field that has no default."""


class Default(Struct, frozen=True):
    """The reader's default, as a value that was written as `case` says; a case of None is null."""

    case: Case | None
    value: object = None


class Access(Struct, frozen=True):
    """A field of the writer's record, and what to do by the type that it has."""

    field: str
    kinds: tuple[str, ...]
    """The writer's types: one, or a union's in its order."""
    branches: tuple["Outcome", ...]
    """For each of them."""


Outcome: TypeAlias = Case | Refused | Default | Access
NULL = Default(None)


class Route(Struct, frozen=True):
    """Where a column comes from."""

    path: str
    domain: Domain
    root: Access | Default

    def refusals(self) -> Iterator[Refused]:
        """Yield what the writer may write and this reader cannot read, nulls aside."""
        yield from _refusals(self.root)

    @property
    def hopeless(self) -> bool:
        """Whether nothing but nulls could ever be read."""
        return not _hopeful(self.root)


def _refusals(outcome: Outcome) -> Iterator[Refused]:
    if isinstance(outcome, Access):
        for kind, branch in zip(outcome.kinds, outcome.branches, strict=True):
            if isinstance(branch, Refused) and kind != "null":
                yield branch
            yield from _refusals(branch)


def _hopeful(outcome: Outcome) -> bool:
    if isinstance(outcome, Access):
        only_null = set(outcome.kinds) == {"null"}
        pairs = zip(outcome.kinds, outcome.branches, strict=True)
        return any((only_null or kind != "null") and _hopeful(branch) for kind, branch in pairs)
    return not isinstance(outcome, Refused)


def column_type(reader: Type, path: str, use: Use = "value") -> tuple[Domain, bool, Type]:
    """Return domain, nullability and leaf type of a dotted path in the reader's schema; SchemaError if it is none.

    Where a union on the way has several records, those that lack the field have null there.
    """
    nodes, nullable = [reader], False
    names = path.split(".")
    for depth, name in enumerate(names):
        records, maybe = _records(nodes, ".".join(names[:depth]) or reader.name)
        found = [field.type for record in records if (field := record.field(name)) is not None]
        if not found:
            known = ", ".join(other.name for record in records for other in record.fields)
            raise SchemaError(f"{path}: {records[0].name} has no field {name!r}; it has {known}")
        nullable |= maybe or len(found) < len(records)
        nodes = found
    leaf = nodes[0] if len(nodes) == 1 else Type("union", branches=tuple(one for node in nodes for one in node.options))
    domain = _domain(leaf, path, use)
    return domain, nullable or any(option.kind == "null" for option in leaf.options), leaf


def _records(nodes: Sequence[Type], path: str) -> tuple[list[Type], bool]:
    """Return the records that a field may be, and whether it may be null."""
    options = [option for node in nodes for option in node.options]
    records = [option for option in options if option.kind != "null"]
    if not records or any(option.kind != "record" for option in records):
        kinds = "|".join(option.kind for option in options)
        raise SchemaError(f"{path} is {kinds}, not a record: it has no fields to name")
    return records, len(records) < len(options)


def _domain(node: Type, path: str, use: Use) -> Domain:
    found = {_option_domain(option, path) for option in node.options if option.kind != "null"}
    if use == "text":
        return "text"
    if use == "time":
        _check_time(node, path, found)
        return "integer"
    if len(found) == 1:
        return found.pop()
    if "text" in found:
        raise SchemaError(f"{path} is text for one event and a number for another: it makes no column")
    return "number"


def _option_domain(option: Type, path: str) -> Domain:
    if option.kind in NUMERIC:
        return "integer" if option.kind in ("int", "long") else "number"
    if option.kind == "boolean":
        return "boolean"
    if option.kind in TEXT:
        return "number" if option.logical in DECIMALS else "text"
    hint = "; name one of its fields" if option.kind == "record" else ""
    raise SchemaError(f"{path} is of type {option.kind}, which makes no column{hint}")


def _check_time(node: Type, path: str, found: set[Domain]) -> None:
    right = "a timestamp, a date or a long"
    of_day = [option.logical for option in node.options if option.logical in ("time-millis", "time-micros")]
    if found != {"integer"} or of_day:
        kinds = of_day[0] if of_day else "|".join(option.logical or option.kind for option in node.options)
        raise SchemaError(f"{path}: the event time must be {right}; it is {kinds}")


def route(reader: Type, writer: Type, path: str, use: Use = "value", time_unit: TimeUnit = "ms") -> Route:
    """Resolve one dotted path; raises SchemaError when no value of this writer could ever be read.

    `time_unit` is what a long without a logical type counts, where the use is time.
    """
    domain, _, _ = column_type(reader, path, use)
    if not _same_name(reader, writer):
        raise SchemaError(_another_record(reader, writer))
    return Route(path, domain, _Resolving(path, domain, use, time_unit).field(reader, writer, path.split(".")))


def _another_record(reader: Type, writer: Type) -> str:
    hint = f"give {reader.full_name} the alias {writer.name} if they are the same"
    return f"a {writer.full_name} was written where a {reader.full_name} is read ({hint})"


def _same_name(reader: Type, writer: Type) -> bool:
    return writer.name == reader.name or writer.name in reader.aliases


class _Resolving:
    """Resolves one path."""

    def __init__(self, path: str, domain: Domain, use: Use, time_unit: TimeUnit) -> None:
        self._path, self._domain, self._use, self._time_unit = path, domain, use, time_unit

    def field(self, reader: Type, writer: Type, names: list[str]) -> Access | Default:
        """Resolve the first of `names` in a record, the others below it; raises SchemaError if nothing can be read."""
        expected = reader.field(names[0])
        if expected is None:
            return NULL  # another record of a union has it: `column_type` has seen to that
        found = _writers_field(expected, writer)
        if found is None:
            return self._default(expected, names[1:], writer)
        options = found.type.options
        outcomes = tuple(self._outcome(expected.type, option, options, names[1:]) for option in options)
        refused = [outcome for outcome in outcomes if isinstance(outcome, Refused)]
        if len(refused) == len(outcomes):
            fault = Lacking if any(one.lacks for one in refused) else SchemaError
            raise fault(self._why_none(expected.type, options, refused, below=len(names) > 1))
        return Access(found.name, tuple(option.kind for option in options), outcomes)

    def _why_none(self, reader: Type, wrote: tuple[Type, ...], refused: list[Refused], *, below: bool) -> str:
        records = [one.why for one, option in zip(refused, wrote, strict=True) if option.kind == "record"]
        if below and records:
            return records[0]
        kinds, want = ("|".join(option.kind for option in options) for options in (wrote, reader.options))
        return f"{self._path}: written as {kinds}, which cannot be read as {want}"

    def _outcome(self, reader: Type, wrote: Type, beside: tuple[Type, ...], names: list[str]) -> Outcome:
        """Say what becomes of one of the writer's types; `beside` are all types that the field may have."""
        if wrote.kind == "null":
            if any(option.kind == "null" for option in reader.options):
                return NULL
            return Refused(f"{self._path}: null was written, which the reader does not allow")
        candidates = [option for option in reader.options if _fits(option, wrote) and _is_own(option, wrote, beside)]
        if not candidates:
            return Refused(self._why_not(reader, wrote))
        candidates.sort(key=lambda option: (option.kind != wrote.kind, option.full_name != wrote.full_name))
        if not names:
            return self._case(candidates[0], wrote)
        try:
            return self.field(candidates[0], wrote, names)
        except SchemaError as error:
            return Refused(str(error), isinstance(error, Lacking))

    def _why_not(self, reader: Type, wrote: Type) -> str:
        records = [option for option in reader.options if option.kind == "record"]
        if wrote.kind == "record" and records:
            return f"{self._path}: {_another_record(records[0], wrote)}"
        name = f"{wrote.kind} {wrote.name}".strip()
        return f"{self._path}: a value written as {name} cannot be read here"

    def _case(self, reader: Type, wrote: Type) -> Case:
        case = Case(self._path, self._domain, wrote.kind)
        if wrote.kind == "enum":
            if set(wrote.symbols) <= set(reader.symbols):
                return case
            return replace(case, symbols=reader.symbols, substitute=reader.default)
        if wrote.kind in ("int", "long"):
            by = ratio_to_ms(reader, wrote, self._time_unit) if self._use == "time" else ratio(reader, wrote)
            return replace(case, scale_by=by, saturate=self._use == "time", real=_real(reader))
        if wrote.kind in NUMERIC:
            return replace(case, real=_real(reader))
        if reader.logical in DECIMALS:
            written = wrote if wrote.logical in DECIMALS else reader
            form: Form = "big-decimal" if written.logical == "big-decimal" else "decimal"
            return replace(case, form=form, scale=written.scale, digits=reader.scale)
        return replace(case, form=_bytes_form(reader, wrote))

    def _default(self, expected: Field, below: list[str], writer: Type) -> Default:
        if not expected.has_default:
            lacks = f"{writer.name} was written without {expected.name!r}, which has no default"
            raise Lacking(f"{self._path}: {lacks}")
        value, node = expected.default, expected.type
        for name in below:
            if value is None:
                return NULL
            inner = _holder(node, value).field(name)
            if inner is None:
                return NULL
            if name not in value and not inner.has_default:
                raise SchemaError(f"{self._path}: the default of {expected.name!r} does not give {name!r}")
            value, node = value.get(name, inner.default), inner.type
        if value is None:
            return NULL
        option = _holder(node, value)
        return Default(self._case(option, option), physical(option, value))


def _real(reader: Type) -> Literal["", "float", "double"]:
    return reader.kind if reader.kind in ("float", "double") else ""  # type: ignore[return-value]


def _bytes_form(reader: Type, wrote: Type) -> Form:
    if reader.kind == "string":
        return "utf8" if wrote.kind == "bytes" else "value"
    return "uuid" if reader.logical == "uuid" and reader.kind == "fixed" else "hex"


def default_of(field: Field) -> Any:
    """Return a field's default as the value that it means."""
    return None if field.default is None else physical(_holder(field.type, field.default), field.default)


def _holder(node: Type, default: Any) -> Type:
    """Return the type, or the branch of a union, that a default is of: the first that can hold it."""
    return next(option for option in node.options if allows(option, default))


def physical(node: Type, default: Any) -> Any:
    """Return a default, as it stands in a schema's JSON, as the value that it means."""
    if node.kind in ("bytes", "fixed"):
        return default.encode("latin-1")  # one character a byte
    return float(default) if node.kind in ("float", "double") else default  # "NaN" is a text in JSON


def _writers_field(expected: Field, wrote: Type) -> Field | None:
    for name in (expected.name, *expected.aliases):
        found = wrote.field(name)
        if found is not None:
            return found
    return None


def _is_own(reader: Type, wrote: Type, beside: tuple[Type, ...]) -> bool:
    """Say whether no other type beside it is the reader's by its full name."""
    return wrote.full_name == reader.full_name or all(
        other.full_name != reader.full_name for other in beside if other.full_name
    )


def _fits(reader: Type, wrote: Type) -> bool:
    if wrote.kind in ("record", "enum", "fixed"):
        return wrote.kind == reader.kind and _same_name(reader, wrote) and wrote.size == reader.size
    if wrote.kind in NUMERIC and reader.kind in NUMERIC:
        return NUMERIC.index(wrote.kind) <= NUMERIC.index(reader.kind)
    if wrote.kind in ("string", "bytes") and reader.kind in ("string", "bytes"):
        return wrote.kind == reader.kind or reader.logical not in DECIMALS
    return wrote.kind == reader.kind
