"""What an operator writes: one YAML document about models, predictors, routes, tenants and references.

`load_document` takes a YAML file and returns `Loaded`: a frozen `Document` that is consistent in itself, with a line
for every path; or it raises a ConfigError with *all* problems, each with path, line and what would be right.

Only what the document and its files tell is decided here; what needs a model or an Avro schema is checked in
`commands/check.py`. No secret is accepted, and no file outside the document's folder.

    source -> structure (fields) -> check_names, _graphs, _topics, _usage -> files, maps -> Loaded

    loading                        all of that, in order
    source, plain_yaml, structure  YAML with line numbers; first pass, field by field
    check_names, check_graphs, check_topics, check_usage, secret_keys   second pass: what belongs together
    files, maps, remote            the files a document names, those of a URL too; fitted maps and recalibrations
    document                       the whole document: model, predictor, graph, reference, recalibration, refresh,
                                   route, tenant, event
    drift                          what is looked at for drift, and what is allowed
    fields, expected               types of fields; a finding as a sentence with a hint
    promotion, pausing, map_edit   another predictor live, a tenant paused, fitted maps: the change of a YAML text;
                                   yaml_text: where everything stands in it
    hashing, totality              content hashes; does every intent have a route?
    kafka_settings                 how Kafka is reached; kafka_properties, librdkafka: the file of properties
    registry_settings              how a Schema Registry is reached; secret_settings: secrets, and files that hold them
"""

from muse_stream.config.check_topics import CROWDED_PARTITIONS
from muse_stream.config.document import ANY_OTHER, Document, Limits, consumer_group, json_schema
from muse_stream.config.drift import DriftSpec, TenantDriftSpec
from muse_stream.config.event import AttributeSource, EventSpec, SubjectNames
from muse_stream.config.files import NotAllowed, content_files, locate, model_file, pinned_hashes, referenced_files
from muse_stream.config.graph import (
    CORRECTIONS,
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
    PriorCorrectionNode,
    RecalibrationNode,
)
from muse_stream.config.hashing import content_hash, pre_map_hash, predictor_hash
from muse_stream.config.kafka_properties import Property
from muse_stream.config.kafka_settings import KafkaSettings
from muse_stream.config.librdkafka import CLIENT, CONSUMER, HIDDEN, PRODUCER, canonical
from muse_stream.config.loading import (
    Examined,
    Loaded,
    examine_document,
    examine_source,
    load_document,
    load_for_fitting,
    read_source,
)
from muse_stream.config.map_edit import with_betas, with_maps
from muse_stream.config.maps import FittedData, unsound
from muse_stream.config.model import (
    ClassChoice,
    ColumnOf,
    DataSpec,
    FeatureSpec,
    GoldenSpec,
    LabelOf,
    ModelSpec,
    OutputSpec,
)
from muse_stream.config.pausing import pause
from muse_stream.config.predictor import ExpertSpec, GraphPredictor, MetaModel, PredictorSpec, ShortPredictor
from muse_stream.config.promotion import Promotion, Replaced, promote
from muse_stream.config.recalibration import FileRecalibration, InlineRecalibration, RecalibrationSpec
from muse_stream.config.reference import BetaComponent, FileMap, InlineMap, MapSpec, Quantiles, ReferenceSpec
from muse_stream.config.refresh import RefreshPolicy, RefreshSpec
from muse_stream.config.registry_settings import RegistrySettings
from muse_stream.config.route import Role, RouteSpec, ShadowSpec
from muse_stream.config.source import Source, YamlKey, YamlPath, parse, written
from muse_stream.config.structure import Draft, read_structure
from muse_stream.config.tenant import TOPIC_KINDS, TenantSpec, TenantTopics, TopicKind, TopicOverrides, Topics
from muse_stream.config.totality import Counterexample, Totality, prove_total

__all__ = [
    "ANY_OTHER",
    "CLIENT",
    "CONSUMER",
    "CORRECTIONS",
    "CROWDED_PARTITIONS",
    "HIDDEN",
    "PRODUCER",
    "TOPIC_KINDS",
    "WEIGHTED",
    "AggregateNode",
    "AttributeSource",
    "BetaComponent",
    "ClassChoice",
    "ClipNode",
    "ColumnOf",
    "CorrectionNode",
    "Counterexample",
    "DataSpec",
    "Document",
    "Draft",
    "DriftSpec",
    "EventSpec",
    "Examined",
    "ExpertSpec",
    "FeatureSpec",
    "FileMap",
    "FileRecalibration",
    "FittedData",
    "GoldenSpec",
    "GraphPredictor",
    "How",
    "InlineMap",
    "InlineRecalibration",
    "KafkaSettings",
    "LabelOf",
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
    "PriorCorrectionNode",
    "Promotion",
    "Property",
    "Quantiles",
    "RecalibrationNode",
    "RecalibrationSpec",
    "ReferenceSpec",
    "RefreshPolicy",
    "RefreshSpec",
    "RegistrySettings",
    "Replaced",
    "Role",
    "RouteSpec",
    "ShadowSpec",
    "ShortPredictor",
    "Source",
    "SubjectNames",
    "TenantDriftSpec",
    "TenantSpec",
    "TenantTopics",
    "TopicKind",
    "TopicOverrides",
    "Topics",
    "Totality",
    "YamlKey",
    "YamlPath",
    "canonical",
    "consumer_group",
    "content_files",
    "content_hash",
    "examine_document",
    "examine_source",
    "json_schema",
    "load_document",
    "load_for_fitting",
    "locate",
    "model_file",
    "parse",
    "pause",
    "pinned_hashes",
    "pre_map_hash",
    "predictor_hash",
    "promote",
    "prove_total",
    "read_source",
    "read_structure",
    "referenced_files",
    "unsound",
    "with_betas",
    "with_maps",
    "written",
]
