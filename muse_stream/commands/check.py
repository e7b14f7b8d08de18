"""Everything that can be known about a configuration before anything runs.

`check` returns all problems and all warnings of a configuration file, each with its YAML path and line. One mistake
hides no other: what the document alone tells is joined with what its models, golden rows and Avro schemas tell, even
when the document is refused. At the end it is compiled exactly as workers will, lane by lane and role by role.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from contextlib import suppress
from graphlib import CycleError
from itertools import chain
from pathlib import Path

from msgspec.structs import replace

from muse_stream.avro import SchemaDirectory, column_type
from muse_stream.commands.check_fields import schema_problems
from muse_stream.commands.check_models import load_all, oddities
from muse_stream.commands.check_routes import text_warnings
from muse_stream.commands.check_writers import writer_findings
from muse_stream.config import (
    Document,
    Draft,
    Loaded,
    NotAllowed,
    Role,
    Source,
    Totality,
    examine_source,
    locate,
    pre_map_hash,
    prove_total,
    read_source,
    unsound,
    written,
)
from muse_stream.errors import ConfigError, Problem, SchemaError
from muse_stream.models import Backend, ModelCache
from muse_stream.runtime.batch_scorer import scorer_of
from muse_stream.runtime.compile import compile_generation

ROLES: tuple[Role, ...] = ("live", "shadow")
Domain = frozenset[str | None]
CLOSED = {"boolean": ("true", "false")}
"""Types that have few text forms; an enum has its symbols."""


@dataclasses.dataclass(frozen=True, slots=True)
class Checked:
    """What was found."""

    problems: tuple[Problem, ...]
    warnings: tuple[Problem, ...]
    loaded: Loaded | None
    """None when the document itself is refused."""
    contents: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """Predictor -> hash of its content before its quantile map: what `fitted_for` of a map fitted on it is."""
    backends: Mapping[str, Backend] = dataclasses.field(default_factory=dict)
    """What runs each model."""

    @property
    def ok(self) -> bool:
        """True when the configuration can be run."""
        return not self.problems


def check(path: str | Path) -> Checked:
    """Check a configuration file; never raises for what is in it or in the files it names."""
    try:
        source = read_source(Path(path))
    except ConfigError as error:
        return Checked(error.problems, (), None)
    return check_source(source, Path(path).parent)


def check_source(source: Source, root: Path) -> Checked:
    """Check a text that was parsed; the files that it names stand in `root`."""
    examined = examine_source(source, root)
    draft, loaded = examined.draft, examined.loaded
    misfits = [misfit.problem for misfit in examined.misfits]
    problems = [problem for problem in examined.problems if problem not in misfits]
    cache = ModelCache()
    models = load_all(draft, root, cache, problems)  # kept: the cache forgets what nobody holds
    schemas = _schemas(draft, root, problems)
    warnings: list[Problem] = []
    if schemas is not None:
        problems += schema_problems(draft, schemas, models)
        writers = writer_findings(draft, schemas)
        problems += writers.problems
        warnings += writers.warnings
    problems += [misfit.problem for misfit in examined.misfits if not misfit.follows(problems)]
    if loaded is not None:
        closed = domains(loaded.document, schemas) if schemas else {}
        total = prove_total(loaded.document, closed)
        problems += _told(total, loaded.document, problems).problems(loaded.source)
        warnings += [*oddities(draft, models), *loaded.warnings, *total.warnings(loaded.source)]
        if schemas is not None:
            warnings += text_warnings(draft, schemas, closed, loaded.source)
    if loaded is not None and not problems:
        problems += _compiled(loaded, cache, schemas)
    backends = {name: model.backend for name, model in models.items()}
    del models
    others = [problem for problem in problems if problem not in misfits]
    return Checked(_ordered(problems), _ordered(warnings), loaded, _contents(draft.document, others), backends)


def _contents(document: Document, problems: Sequence[Problem]) -> dict[str, str]:
    """Return the content hash of each predictor that nothing is wrong with."""
    found: dict[str, str] = {}
    for name, predictor in document.predictors.items():
        if not unsound(name, predictor.graph().models(), problems):
            with suppress(KeyError, CycleError):
                found[name] = pre_map_hash(document, name)
                for node in predictor.graph().recalibration_nodes():
                    found[f"{name}/{node}"] = pre_map_hash(document, name, node)
    return found


def _schemas(draft: Draft, root: Path, problems: list[Problem]) -> SchemaDirectory | None:
    """Open the folder of schemas, once; what is wrong with it is added to `problems`."""
    try:
        folder = locate(root, draft.document.schemas)
    except NotAllowed:
        return None  # the document's own check has said so
    if not folder.is_dir():
        return None  # likewise
    try:
        return SchemaDirectory.open(folder)
    except SchemaError as error:
        text = str(error)  # which the document's own check may have said, of the table or of the event's schema
        of_table = "ids.json" in text and any(problem.message.startswith("ids.json") for problem in problems)
        of_file = "holds no" in text and any(problem.path.endswith(".schema") for problem in problems)
        if not (of_table or of_file):
            problems.append(draft.problem(("schemas",), str(error)))
        return None


def domains(document: Document, schemas: SchemaDirectory) -> dict[tuple[str, str], Domain]:
    """Return the values that an intent attribute can have, by event format and attribute, where they are a closed set.

    A set is only called closed when no event of the format can carry another value: an enum of the Avro schema, with
    null if it may be, or a boolean. Anything else is open and left out, and so is what cannot be read.
    """
    found: dict[tuple[str, str], Domain] = {}
    for event, spec in document.events.items():
        for name, source in spec.intent.items():
            if source.field is None:
                continue
            try:
                _, nullable, leaf = column_type(schemas.by_file(spec.schema_file).type, source.field, "text")
            except SchemaError:
                continue
            sets = [CLOSED.get(option.kind, option.symbols) for option in leaf.options if option.kind != "null"]
            if sets and all(sets):
                found[event, name] = frozenset({*chain(*sets), *((None,) if nullable else ())})
    return found


def _told(total: Totality, document: Document, problems: Sequence[Problem]) -> Totality:
    """Leave out tenants of whose events something is wrong: what their attributes can hold is not known then."""
    wrong = {
        event
        for event in document.events
        for problem in problems
        if problem.path == "schemas" or problem.path.startswith(f"events.{event}.")
    }
    known = tuple(one for one in total.uncovered if document.tenants[one.tenant].event not in wrong)
    return replace(total, uncovered=known)


def _compiled(loaded: Loaded, cache: ModelCache, schemas: SchemaDirectory | None) -> list[Problem]:
    problems: list[Problem] = []
    for role in ROLES:
        try:
            compiled = compile_generation(loaded, 0, role, cache, schemas)
        except ConfigError as error:
            problems += (_placed(problem, loaded.source) for problem in error.problems)
            continue
        for lane in loaded.document.lanes():
            try:
                scorer_of(compiled, role, lane).warm()
            except ConfigError as error:
                problems += (_placed(problem, loaded.source) for problem in error.problems)
    return problems


def _placed(problem: Problem, source: Source) -> Problem:
    """Give a problem that knows only its path a line: that of the path, or of the nearest thing around it."""
    if problem.line is not None:
        return problem
    lines = {written(place): line for place, line in source.lines.items()}
    text = problem.path
    while text and text not in lines:
        text = text[: max(text.rfind("."), text.rfind("["), 0)]
    return dataclasses.replace(problem, line=lines.get(text), file=str(source.path))


def _ordered(problems: Sequence[Problem]) -> tuple[Problem, ...]:
    once = {(problem.path, problem.message): problem for problem in reversed(problems)}
    return tuple(sorted(once.values(), key=lambda problem: (problem.line or 0, problem.path, problem.message)))
