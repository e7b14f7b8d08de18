"""Fit the quantile maps of a predictor, say what they can be trusted in, and write or publish them.

    configuration -> (betas) -> samples by tenant -> maps and their evidence -> a configuration's text -> file, or store

A tenant with evidence enough at every threshold gets a map of its own events; one with too little gets one between
the pool's and its own (decision 0025), where other tenants' events are there to make a pool of.
"""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np
from msgspec.structs import asdict, replace

from muse_stream.calibration import (
    EstimatedBeta,
    FittedMap,
    Pool,
    Reference,
    Trust,
    estimate_beta,
    trust,
    trust_in_cold_start,
)
from muse_stream.commands.check import check_source
from muse_stream.commands.configuration import generation_or_none
from muse_stream.commands.fit_samples import FileColumns, FitError, Sample, Told, Topic, from_file, from_topics
from muse_stream.commands.fit_sketches import Counted, moments
from muse_stream.commands.publish import Proposal, proposal
from muse_stream.config import (
    KafkaSettings,
    Loaded,
    content_files,
    examine_source,
    load_document,
    load_for_fitting,
    parse,
    pre_map_hash,
    read_source,
    with_betas,
    with_maps,
)
from muse_stream.control import Store, is_store, open_store
from muse_stream.errors import ConfigError, Problem
from muse_stream.scoring import promised_rates, reference_from

Policy = Literal["auto", "own", "pooled", "shrinkage"]
POLICIES: tuple[Policy, ...] = ("auto", "own", "pooled", "shrinkage")
CONSTANT = 2
"""A sample with fewer distinct scores has no distribution to speak of."""
POOLED_EVENTS = 20_000
"""Of each tenant, the latest so many make the pool."""


@dataclass(frozen=True, slots=True)
class Fitting:
    """What to fit on, and how."""

    columns: FileColumns = field(default_factory=FileColumns)
    """Of a file."""
    since_ms: int | None = None
    until_ms: int | None = None
    """The window of time of topics; milliseconds since 1970."""
    policy: Policy = "auto"
    """own: each tenant's events alone; pooled: all others' for each; shrinkage: between the two, by what is known;
    auto: own where there is evidence enough at every threshold, else shrinkage."""
    reference: str | None = None
    """The reference of a predictor that has no quantile map yet."""
    default: bool = False
    """Fit a map of all tenants together as well, for those that have none of their own."""
    betas: Mapping[str, float] = field(default_factory=dict)
    """Model -> the share of negatives that it was trained with."""
    estimate_betas: bool = False
    """Estimate them from the label column."""
    gaps: bool = False
    """Fit on a window in which events are missing."""


@dataclass(frozen=True, slots=True, eq=False)
class FittedTenant:
    """One tenant's map, and its evidence."""

    tenant: str
    map: FittedMap
    policy: Literal["own", "pooled", "shrinkage"]
    events: int
    """Of its own."""
    entities: int
    """That these are of; 0 where they are not known."""
    first_ms: int | None
    last_ms: int | None
    left_out: int
    trust: tuple[Trust, ...]

    def warnings(self) -> list[str]:
        """Return what is to be known before the map is relied on."""
        found = [
            f"too little evidence at threshold {one.threshold:g}: {_percent(one.promised)} is promised, the true alert "
            f"rate lies in {_percent(one.low)} to {_percent(one.high)}; {one.needed:,} events would halve that"
            for one in self.trust
            if not one.enough
        ]
        found += [
            f"ties keep threshold {one.threshold:g} from its alert rate: {_percent(one.promised)} is promised, "
            f"{_percent(one.reached or 0.0)} of the sample reach it"
            for one in self.trust
            if one.tied
        ]
        if self.left_out:
            found.append(f"{self.left_out:,} events are left out: no score, or another content of the predictor")
        return found

    def to_json(self) -> dict[str, Any]:
        """Return the evidence, as it is kept with a generation."""
        return {
            "policy": self.policy,
            "events": self.events,
            **({"own_share": self.map.own_share} if self.map.own_share is not None else {}),
            "entities": self.entities,
            "first": _moment(self.first_ms),
            "last": _moment(self.last_ms),
            "left_out": self.left_out,
            "thresholds": [{**asdict(one), "enough": one.enough, "tied": one.tied} for one in self.trust],
        }


@dataclass(frozen=True, slots=True, eq=False)
class Fit:
    """Fitted maps of a predictor, by tenant."""

    predictor: str
    fitted_for: str
    """The hash that the maps are pinned to."""
    reference: str
    promise: Reference
    tenants: Mapping[str, FittedTenant]
    default: FittedMap | None
    betas: Mapping[str, EstimatedBeta | float]
    """What the experts' corrections were set to."""
    loaded: Loaded
    """The configuration, with these betas."""

    @property
    def maps(self) -> dict[str, FittedMap]:
        """Tenant -> its map."""
        return {name: one.map for name, one in self.tenants.items()}

    def to_json(self) -> dict[str, Any]:
        """Return what was fitted and on what evidence, without the maps themselves."""
        return {
            "predictor": self.predictor,
            "fitted_for": self.fitted_for,
            "reference": self.reference,
            "betas": {name: asdict(one) if isinstance(one, EstimatedBeta) else one for name, one in self.betas.items()},
            "default": self.default is not None,
            "tenants": {name: one.to_json() for name, one in self.tenants.items()},
        }

    def write(self, path: str | Path) -> Path:
        """Put the maps into a configuration file: JSON files in a folder `maps` beside it, and their names in its text.

        Comments and order stay. Raises ConfigError where the file's predictor is another one than was fitted, or its
        text cannot be changed.
        """
        path = Path(path)
        base = load_for_fitting(read_source(path), path.parent, self.predictor)
        text, files = self._text(base)
        for name, data in files.items():
            (path.parent / name).parent.mkdir(exist_ok=True)
            (path.parent / name).write_bytes(data)
        _raise(examine_source(parse(path, text.encode()), path.parent).problems)
        aside = path.with_name(f".{path.name}.{os.getpid()}")
        aside.write_bytes(text.encode())
        aside.chmod(path.stat().st_mode & 0o777)
        aside.replace(path)
        return path

    @contextmanager
    def proposed(self, store: str | Path) -> Iterator[Proposal]:
        """Give the next generation of a store: its current one, with these maps; `publish` publishes it.

        Raises ConfigError as `write` does, and for what `check` finds; StoreError.
        """
        opened: Store = open_store(store)
        try:
            number = opened.current()
            base = self.loaded if number is None else load_document(opened.open(number).path)
            text, files = self._text(base)
            with tempfile.TemporaryDirectory(prefix="muse-fit-") as folder:
                root = Path(folder)
                for name, source in content_files(base).items():
                    _linked(source, root / name)
                for name, data in files.items():
                    (root / name).parent.mkdir(parents=True, exist_ok=True)
                    (root / name).write_bytes(data)
                file = root / base.source.path.name
                file.write_bytes(text.encode())
                yield proposal(check_source(parse(file, text.encode()), root), opened, number)
        finally:
            opened.close()

    def _text(self, base: Loaded) -> tuple[str, dict[str, bytes]]:
        """Return the text with the maps, and the files that it names."""
        document, name = base.document, str(base.source.path)
        if self.predictor not in document.predictors:
            raise ConfigError([base.source.problem(("predictors",), f"there is no predictor '{self.predictor}' in it")])
        text = base.source.data.decode()
        if self.betas:
            text = with_betas(text, document, self.predictor, _values(self.betas), name)
            document = examine_source(parse(base.source.path, text.encode()), base.root).draft.document
        content = pre_map_hash(document, self.predictor)
        if content != self.fitted_for:
            message = (
                f"the maps were fitted for {self.fitted_for[:12]}..., and '{self.predictor}' is {content[:12]}... here:"
                " other models, inputs, category tables, betas or aggregation"
            )
            raise ConfigError(
                [base.source.problem(("predictors", self.predictor), message, "fit on this configuration")]
            )
        files: dict[str, bytes] = {}
        entries: dict[str, dict[str, str]] = {}
        named: dict[str, str] = {}
        own = dict(self.maps) | ({} if self.default is None else {"": self.default})
        for tenant, fitted in own.items():
            data = json.dumps(fitted.to_json()).encode()
            digest = hashlib.sha256(data).hexdigest()
            named[tenant] = f"{self.predictor}-{tenant or 'pooled'}"
            file = f"maps/{named[tenant]}-{digest[:12]}.json"
            files[file] = data
            entries[named[tenant]] = {"file": file, "sha256": digest}
        default = named.pop("", None)
        return with_maps(text, document, self.predictor, entries, named, self.reference, default, name), files


def fit_maps(
    configuration: str | Path,
    predictor: str,
    source: str | Path,
    *,
    tenants: Sequence[str] | None = None,
    fitting: Fitting | None = None,
    settings: KafkaSettings | None = None,
    store: str | Path | None = None,
    progress: Told = lambda _done: None,
) -> Fit:
    """Fit a quantile map of `predictor` for each tenant.

    `configuration` is a YAML file, or a store's folder or URL: its current generation. `source` is `scores` or `audit`,
    the topics of a live predictor or a shadow; `sketches`, what the role `calibrate` has counted in the store; or a
    file: Parquet, CSV, JSON lines, of events (Avro too), or of scores before the map where `fitting.columns.scores`
    names their column. Without `tenants` every tenant with events gets a map. `settings` say where Kafka is (default:
    the environment), `store` which generations its records are of, or where the sketches are. `progress` gets the
    events done.

    Raises ConfigError, or FitError for what nothing can be fitted to: no events, one score, a window with a gap.
    """
    fitting = fitting or Fitting()
    loaded, address = _opened(configuration, predictor)
    _known(loaded, predictor)
    _reference(loaded, predictor, fitting.reference)  # refused before anything is read or scored
    if fitting.betas:
        loaded = _corrected(loaded, predictor, fitting.betas)
    wanted = _tenants(loaded, tenants)
    if str(source) == "sketches":
        return _of_sketches(loaded, predictor, wanted, fitting, store or address, progress, named=tenants is not None)
    everybody = list(loaded.document.tenants)

    def samples() -> dict[str, Sample]:
        if str(source) in ("scores", "audit"):
            kind: Topic = "scores" if str(source) == "scores" else "audit"
            read = wanted if fitting.policy == "own" else everybody
            alike = _alike(loaded, predictor, store or address)
            window = (fitting.since_ms, fitting.until_ms)
            kafka = settings or KafkaSettings.from_environment()
            of_topics = (kafka, predictor, kind, read, window, alike, progress)
            return from_topics(loaded.document, *of_topics, gaps=fitting.gaps)
        columns = _with_tenant(loaded, wanted, fitting.columns)
        asked = wanted if columns.tenant is None else everybody
        found = from_file(loaded, predictor, Path(source), asked, columns, progress)
        return {name or asked[0]: one for name, one in found.items()}

    found = samples()
    betas: dict[str, EstimatedBeta | float] = dict(fitting.betas)
    if fitting.estimate_betas:
        estimated = _estimated(loaded, predictor, found)
        loaded = _corrected(loaded, predictor, _values(estimated))
        betas |= estimated
        found = samples()  # again, with the corrections
    return _fitted(loaded, predictor, wanted, found, fitting, betas, named=tenants is not None)


def _of_sketches(
    loaded: Loaded,
    predictor: str,
    wanted: Sequence[str],
    fitting: Fitting,
    address: str | Path | None,
    progress: Told,
    *,
    named: bool,
) -> Fit:
    if address is None:
        raise FitError("sketches are in a store, where the role `calibrate` counts: name it with --store")
    if fitting.policy not in ("auto", "own"):
        raise FitError(
            f"a {fitting.policy} map needs events in their order, which sketches do not keep: fit it --from scores, or "
            "--default for a map of all tenants together"
        )
    reference = _reference(loaded, predictor, fitting.reference)
    spec = loaded.document.references[reference]
    promise, thresholds = reference_from(spec), list(promised_rates(spec))
    opened: Store = open_store(address)
    try:
        window = (fitting.since_ms, fitting.until_ms)
        counted = Counted(opened, loaded.document, predictor, window, gaps=fitting.gaps)
        maps = counted.maps(wanted, promise, thresholds, progress)
        lacking = [tenant for tenant in wanted if tenant not in maps]
        if lacking and (named or not maps):
            raise counted.why_none(lacking)
        default = counted.common(list(loaded.document.tenants), promise) if fitting.default else None
    finally:
        opened.close()
    tenants = {
        tenant: FittedTenant(
            tenant, one.map, "own", one.events, entities=0, left_out=0, trust=one.trust, **moments(one)
        )
        for tenant, one in maps.items()
    }
    content = pre_map_hash(loaded.document, predictor)
    return Fit(predictor, content, reference, promise, tenants, default, dict(fitting.betas), loaded)


def _known(loaded: Loaded, predictor: str) -> None:
    document = loaded.document
    if predictor not in document.predictors:
        hint = f"there is: {', '.join(document.predictors)}"
        raise ConfigError([loaded.source.problem(("predictors",), f"there is no predictor '{predictor}'", hint)])


def _opened(configuration: str | Path, predictor: str) -> tuple[Loaded, str | None]:
    if not is_store(configuration):
        path = Path(configuration)
        return load_for_fitting(read_source(path), path.parent, predictor), None
    from muse_stream.commands.configuration import open_configuration  # noqa: PLC0415

    return open_configuration(configuration).loaded, str(configuration)


def _raise(problems: Sequence[Problem]) -> None:
    if problems:
        raise ConfigError(problems)


def _tenants(loaded: Loaded, tenants: Sequence[str] | None) -> list[str]:
    known = list(loaded.document.tenants)
    for name in tenants or ():
        if name not in known:
            hint = f"there is: {', '.join(known)}"
            raise ConfigError([loaded.source.problem(("tenants",), f"there is no tenant '{name}'", hint)])
    return known if tenants is None else list(dict.fromkeys(tenants))


def _with_tenant(loaded: Loaded, wanted: Sequence[str], columns: FileColumns) -> FileColumns:
    """Take the column that the events' format has their tenant in, where several tenants' events may be in a file."""
    formats = {loaded.document.tenants[tenant].event for tenant in wanted}
    stated = {one.tenant.field if (one := loaded.document.events[name]).tenant else None for name in formats}
    field = next(iter(stated), None)
    if columns.tenant is not None or columns.scores is not None or len(wanted) == 1 or len(stated) > 1 or not field:
        return columns
    return replace(columns, tenant=columns.fields.get(field, field))


def _alike(loaded: Loaded, predictor: str, store: str | Path | None) -> Callable[[set[int]], set[int]]:
    wanted = pre_map_hash(loaded.document, predictor)

    def alike(numbers: set[int]) -> set[int]:
        if store is None:  # nothing tells what those generations were: the newest counts
            return {max(numbers)}
        found: set[int] = set()
        opened = open_store(store)
        try:
            for number in numbers:
                then = generation_or_none(opened, number)
                with suppress(KeyError):  # it had no such predictor
                    if then is not None and pre_map_hash(then.document, predictor) == wanted:
                        found.add(number)
        finally:
            opened.close()
        return found

    return alike


def _values(betas: Mapping[str, EstimatedBeta | float]) -> dict[str, float]:
    return {name: one.beta if isinstance(one, EstimatedBeta) else one for name, one in betas.items()}


def _corrected(loaded: Loaded, predictor: str, betas: Mapping[str, float]) -> Loaded:
    name = str(loaded.source.path)
    text = with_betas(loaded.source.data.decode(), loaded.document, predictor, betas, name)
    return load_for_fitting(parse(loaded.source.path, text.encode()), loaded.root, predictor)


def _estimated(loaded: Loaded, predictor: str, samples: Mapping[str, Sample]) -> dict[str, EstimatedBeta]:
    labelled = [one for one in samples.values() if one.labels is not None and one.raw]
    if not labelled:
        raise FitError("a beta is estimated from a file of events with a label column: name it with --label")
    labels = np.concatenate([one.labels for one in labelled if one.labels is not None])
    found: dict[str, EstimatedBeta] = {}
    for model in sorted(loaded.document.predictors[predictor].graph().experts()):
        try:
            found[model] = estimate_beta(np.concatenate([one.raw[model] for one in labelled]), labels)
        except ValueError as error:
            raise FitError(f"{model}: {error}") from None
    return found


def _fitted(
    loaded: Loaded,
    predictor: str,
    wanted: Sequence[str],
    samples: Mapping[str, Sample],
    fitting: Fitting,
    betas: Mapping[str, EstimatedBeta | float],
    *,
    named: bool,
) -> Fit:
    document = loaded.document
    reference = _reference(loaded, predictor, fitting.reference)
    promise = reference_from(document.references[reference])
    thresholds = list(promised_rates(document.references[reference]))
    for tenant, sample in samples.items():
        _check(tenant, sample, gaps=fitting.gaps)
    fitter = _Fitter(promise, thresholds, pre_map_hash(document, predictor), samples)
    found: dict[str, FittedTenant] = {}
    for tenant in wanted:
        if tenant in samples and len(samples[tenant]):
            found[tenant] = fitter.tenant(tenant, fitting.policy)
        elif named:
            found[tenant] = fitter.newcomer(tenant, fitting.policy)
    if not found and not fitting.default:
        raise FitError(f"no events of {', '.join(wanted[:5])} for {predictor}: there is nothing to fit to")
    default = fitter.pool(None).pooled(promise, fitter.fitted_for, tuple(samples)) if fitting.default else None
    return Fit(predictor, fitter.fitted_for, reference, promise, found, default, betas, loaded)


def _reference(loaded: Loaded, predictor: str, given: str | None) -> str:
    document = loaded.document
    own = document.predictors[predictor].graph().promise()
    if not document.references:
        hint = "add what tenants are promised, for example `standard: {alert_rates: {0.5: 0.35, 0.8: 0.05}}`"
        raise ConfigError([loaded.source.problem(("references",), "there is no reference: no map can be fitted", hint)])
    if given is not None and given not in document.references:
        hint = f"there is: {', '.join(document.references)}"
        raise ConfigError([loaded.source.problem(("references",), f"there is no reference '{given}'", hint)])
    if own is not None and given not in (None, own):
        message = f"'{predictor}' maps to '{own}', not to '{given}'"
        raise ConfigError([loaded.source.problem(("predictors", predictor), message, "change it in the configuration")])
    if own is not None or given is not None:
        return own or given or ""
    if len(document.references) == 1:
        return next(iter(document.references))
    message = f"'{predictor}' has no quantile map yet, and there are several references"
    hint = f"choose one with --reference: {', '.join(document.references)}"
    raise ConfigError([loaded.source.problem(("predictors", predictor), message, hint)])


def _check(tenant: str, sample: Sample, *, gaps: bool) -> None:
    if not len(sample):
        return
    try:
        distinct = len(np.unique(sample.scores))
        if np.isnan(sample.scores).any():
            raise ValueError(f"{int(np.isnan(sample.scores).sum()):,} scores are NaN")
        outside = sample.scores[(sample.scores < 0.0) | (sample.scores > 1.0)]
        if len(outside):
            raise ValueError(f"{len(outside):,} values are no score, a number in [0, 1], as {outside[0]:g}")
    except ValueError as error:
        raise FitError(f"tenant {tenant}: {error}") from None
    if distinct < CONSTANT:
        raise FitError(
            f"tenant {tenant}: all {len(sample):,} events have the score {sample.scores[0]:.6g}: a constant has no "
            "quantiles, and no alert rate can be promised on it; look at the model's inputs"
        )
    hole = sample.gap()
    if hole is not None and not gaps:
        start, end = hole
        hours = (end - start) / 3_600_000
        raise FitError(
            f"tenant {tenant}: the window has a gap: no events from {_moment(start)} to {_moment(end)}, {hours:.1f} "
            "hours; choose a window without it (--since, --until), or say --gaps if it is meant"
        )


class _Fitter:
    """Fits the maps of all tenants to one reference."""

    def __init__(
        self, promise: Reference, thresholds: Sequence[float], fitted_for: str, samples: Mapping[str, Sample]
    ) -> None:
        self.fitted_for = fitted_for
        self._promise, self._thresholds = promise, thresholds
        self._samples = {name: one for name, one in samples.items() if len(one)}
        self._pools: dict[str | None, Pool] = {}

    def pool(self, without: str | None) -> Pool:
        """Return the pool of all tenants but one."""
        key = without if without in self._samples else None
        if key not in self._pools:
            others = [one.scores[-POOLED_EVENTS:] for name, one in self._samples.items() if name != without]
            if not others:
                raise FitError(
                    f"there is no pool: no tenant but {without or 'none'} has events; a map of its own events alone "
                    "is fitted with --policy own"
                )
            self._pools.clear()  # one at a time is held
            self._pools[key] = Pool.fit(others)
        return self._pools[key]

    def tenant(self, tenant: str, policy: Policy) -> FittedTenant:
        """Fit the map of a tenant with events."""
        sample = self._samples[tenant]
        if policy in ("auto", "own"):
            fitted = FittedMap.fit(sample.scores, self._promise, self.fitted_for, (tenant,))
            found = trust(sample.scores, fitted, self._promise, self._thresholds, sample.entities)
            if policy == "own" or all(one.enough for one in found) or len(self._samples) == 1:
                return self._made(tenant, fitted, "own", sample, found)
        return self._cold(tenant, "pooled" if policy == "pooled" else "shrinkage", sample)

    def newcomer(self, tenant: str, policy: Policy) -> FittedTenant:
        """Fit the map of a tenant without events, to the pool's."""
        if policy == "own" or not self._samples:
            raise FitError(f"tenant {tenant} has no events: there is nothing to fit to; a pool needs other tenants'")
        return self._cold(tenant, "pooled" if policy == "pooled" else "shrinkage", Sample(np.empty(0)))

    def _cold(self, tenant: str, policy: Literal["pooled", "shrinkage"], sample: Sample) -> FittedTenant:
        pool = self.pool(tenant)
        if policy == "pooled":
            fitted = replace(pool.pooled(self._promise, self.fitted_for, (tenant,)), own_share=0.0)
            known = pool.posterior([])
        else:
            fitted = pool.shrunken(sample.scores, self._promise, self.fitted_for, (tenant,))
            known = pool.posterior(sample.scores)
        events = 0 if policy == "pooled" else len(sample)
        found = trust_in_cold_start(known, events, self._promise, self._thresholds)
        return self._made(tenant, fitted, policy, sample, found)

    @staticmethod
    def _made(
        tenant: str,
        fitted: FittedMap,
        policy: Literal["own", "pooled", "shrinkage"],
        sample: Sample,
        found: tuple[Trust, ...],
    ) -> FittedTenant:
        times = sample.times if sample.times is not None and len(sample.times) else None
        first, last = (None, None) if times is None else (int(times[0]), int(times[-1]))
        entities = len(np.unique(sample.entities)) if len(sample.entities) else 0
        return FittedTenant(tenant, fitted, policy, len(sample), entities, first, last, sample.left_out, found)


def _linked(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except OSError:  # another disk
        shutil.copy2(source, target)


def _moment(stamp_ms: int | None) -> str | None:
    return None if stamp_ms is None else datetime.fromtimestamp(stamp_ms / 1000, UTC).isoformat(timespec="seconds")


def _percent(rate: float) -> str:
    return f"{100 * rate:.3g} %"
