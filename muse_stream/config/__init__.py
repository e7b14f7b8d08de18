"""What an operator writes: one YAML document about models, predictors, routes, tenants and references.

In: a YAML file and the files it names (ONNX, maps, schemas). Out: `Loaded`: a frozen `Document` that is consistent in
itself, with a line for every path; or a ConfigError with *all* problems, each with path, line and what would be
right.
Law: only what a document alone can tell is decided here; what needs a model or an Avro schema is joined in `app`. No
secret is accepted, no file outside the document's folder is named, ruamel.yaml is seen in `source` only.

    source -> structure (fields) -> check_names, _graphs, _topics, _usage -> files, maps -> Loaded
"""

from muse_stream.config.document import ANY_OTHER, Document, Limits, json_schema
from muse_stream.config.event import AttributeSource, EventSpec
from muse_stream.config.files import NotAllowed, locate, referenced_files
from muse_stream.config.graph import (
    WEIGHTED,
    AggregateNode,
    ClipNode,
    CorrectionNode,
    How,
    MapNode,
    MapRefs,
    ModelNode,
    NodeSpec,
    PredictorGraph,
)
from muse_stream.config.hashing import content_hash, pre_map_hash
from muse_stream.config.kafka_properties import Property
from muse_stream.config.kafka_settings import KafkaSettings
from muse_stream.config.librdkafka import CLIENT, CONSUMER, PRODUCER, canonical
from muse_stream.config.loading import Loaded, load_document
from muse_stream.config.maps import FittedMap, load_maps
from muse_stream.config.model import FeatureSpec, GoldenSpec, ModelSpec, OutputSpec
from muse_stream.config.predictor import ExpertSpec, GraphPredictor, MetaModel, PredictorSpec, ShortPredictor
from muse_stream.config.reference import BetaComponent, FileMap, InlineMap, MapSpec, Quantiles, ReferenceSpec
from muse_stream.config.route import RouteSpec, ShadowSpec
from muse_stream.config.source import Source, Step, YamlPath, parse, written
from muse_stream.config.structure import Draft, read_structure
from muse_stream.config.tenant import TOPIC_KINDS, TenantSpec, TenantTopics, TopicOverrides, Topics
from muse_stream.config.totality import Counterexample, Totality, prove_total

__all__ = [
    "ANY_OTHER",
    "CLIENT",
    "CONSUMER",
    "PRODUCER",
    "TOPIC_KINDS",
    "WEIGHTED",
    "AggregateNode",
    "AttributeSource",
    "BetaComponent",
    "ClipNode",
    "CorrectionNode",
    "Counterexample",
    "Document",
    "Draft",
    "EventSpec",
    "ExpertSpec",
    "FeatureSpec",
    "FileMap",
    "FittedMap",
    "GoldenSpec",
    "GraphPredictor",
    "How",
    "InlineMap",
    "KafkaSettings",
    "Limits",
    "Loaded",
    "MapNode",
    "MapRefs",
    "MapSpec",
    "MetaModel",
    "ModelNode",
    "ModelSpec",
    "NodeSpec",
    "NotAllowed",
    "OutputSpec",
    "PredictorGraph",
    "PredictorSpec",
    "Property",
    "Quantiles",
    "ReferenceSpec",
    "RouteSpec",
    "ShadowSpec",
    "ShortPredictor",
    "Source",
    "Step",
    "TenantSpec",
    "TenantTopics",
    "TopicOverrides",
    "Topics",
    "Totality",
    "YamlPath",
    "canonical",
    "content_hash",
    "json_schema",
    "load_document",
    "load_maps",
    "locate",
    "parse",
    "pre_map_hash",
    "prove_total",
    "read_structure",
    "referenced_files",
    "written",
]
