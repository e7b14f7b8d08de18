"""The map of a tenant and predictor that a refresh would replace, and the map from which its step is counted."""

from collections.abc import Mapping
from dataclasses import dataclass

from muse_stream.calibration import FittedMap, QuantileMap
from muse_stream.commands.refresh_record import digest_of
from muse_stream.config import Loaded, content_hash, load_document
from muse_stream.control import Store
from muse_stream.errors import StoreError
from muse_stream.runtime.score_reader import content_of
from muse_stream.scoring import promised_rates, reference_from


@dataclass(frozen=True, slots=True, eq=False)
class Target:
    """A tenant's map of a predictor, as it serves."""

    loaded: Loaded
    number: int
    tenant: str
    predictor: str
    content: str
    """Hash of the predictor up to its map."""
    map_id: str
    """How counts call the map."""
    reference: str
    """Its name."""
    served: QuantileMap
    promised: Mapping[float, float]

    @property
    def policy(self) -> str:
        """The tenant's."""
        return self.loaded.document.tenants[self.tenant].refresh

    @property
    def promise(self) -> str:
        """Hash of the reference."""
        return content_hash(self.loaded.document.references[self.reference])

    @property
    def present(self) -> str:
        """Digest of the map."""
        return digest_of(self.served.fitted)

    @property
    def where(self) -> str:
        """Which one it is, for a person."""
        return f"tenant {self.tenant}, {self.predictor}"


def target(loaded: Loaded, number: int, tenant: str, predictor: str) -> Target | None:
    """Return a tenant's map of a predictor; None where there is none."""
    document = loaded.document
    found = content_of(document, tenant, predictor) if tenant in document.tenants else None
    node = document.predictors[predictor].graph().nearest_map() if found is not None else None
    name = node.map_of(tenant) if node is not None else None
    if found is None or node is None or name is None or not found.map_id:
        return None
    spec = document.references[node.reference]
    served = QuantileMap(loaded.fitted.maps[name], reference_from(spec))
    return Target(
        *(loaded, number, tenant, predictor, found.content, found.map_id, node.reference, served),
        promised_rates(spec),
    )


def current(store: Store) -> tuple[int, Loaded]:
    """Return what is current; raises StoreError where nothing is, ConfigError where it is refused."""
    number = store.current()
    if number is None:
        raise StoreError(f"{store} holds no generation; publish one there with `muse-stream publish`")
    return number, load_document(store.open(number).path)


def anchor(store: Store, wanted: Target) -> QuantileMap:
    """Return the map that a person has published last: the one that serves, unless the role has put it there.

    The generations say so, which only a publisher writes. Raises StoreError.
    """
    for entry in reversed(store.list()):
        told = (entry.evidence or {}).get("refreshed")
        if isinstance(told, dict) and told.get("map") == wanted.present and told.get("by_itself"):
            try:
                return QuantileMap(FittedMap.from_json(told["anchor"]), wanted.served.reference)
            except (ValueError, KeyError) as error:
                raise StoreError(
                    f"{store}: the evidence of generation {entry.number} cannot be read: {error}"
                ) from None
    return wanted.served
