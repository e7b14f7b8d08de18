"""Bytes to columns and back: Avro on Kafka.

Invariant: a record's fault is a `Rejected`, a schema's fault is a `SchemaError`, and no value of a batch is ever
without an answer.

    framing                         the prefix that names the writer's schema
    schemas, schema_files           where schemas are found; types that other files define
    schema_json, types              reading one; a schema as a tree
    codec, strict                   pyruhvro for batches; one record, byte by byte
    blocks                          a large batch as one array
    stand_ins, lengths, exact       types that stand in for those pyruhvro lacks; what it lets pass
    samples, memory                 made-up records to try a decoder on; what a batch may take
    resolution, times               a field of the reader's schema -> what to do with the writer's; units of time
    conversion, bytes_arrays        what was written -> what a column holds: numbers, text forms
    text_forms                      which texts a type can have
    arrow_columns, record_columns   doing it: for a batch, for one record
    decoder, decoded, selection     values -> Decoded; joining parts of a batch; keeping rows
    encoder, nested                 columns -> values; columns of lists and maps
    plain_values                    columns -> Python values, for a few records
    records                         values -> dicts, for people to read; scores as columns, for verify
    record_tables                   values -> Arrow tables of whole records, nested fields too
    synthetic                       made-up events of a schema, to try a generation with
"""

from muse_stream.avro.arrow_columns import NO_TIME
from muse_stream.avro.codec import slow_because
from muse_stream.avro.decoded import Decoded, Fields, TextColumn, concat, fixed_width
from muse_stream.avro.decoder import Decoder, Unreadable
from muse_stream.avro.encoder import Encoder, RowEncoder, arrow_type, column_array, is_nullable
from muse_stream.avro.framing import Frame, single_object_prefix
from muse_stream.avro.framing import schema_id as schema_id_of
from muse_stream.avro.nested import nullable, record_lists, string_maps
from muse_stream.avro.record_tables import RecordTable, RecordTables
from muse_stream.avro.records import PLACE, audit_decoder, decode_records, field_of, origin_decoder, score_decoder
from muse_stream.avro.resolution import column_type
from muse_stream.avro.samples import varint
from muse_stream.avro.schema_files import complete
from muse_stream.avro.schema_json import NOT_FINITE
from muse_stream.avro.schemas import Schema, SchemaDirectory, ambiguous, canonical_form, parse_schema
from muse_stream.avro.selection import keep, missing, take
from muse_stream.avro.synthetic import Demands, made_up
from muse_stream.avro.text_forms import can_be, in_words
from muse_stream.avro.times import IN_WORDS, last_year
from muse_stream.avro.types import Field, Type

__all__ = [
    "IN_WORDS",
    "NOT_FINITE",
    "NO_TIME",
    "PLACE",
    "Decoded",
    "Decoder",
    "Demands",
    "Encoder",
    "Field",
    "Fields",
    "Frame",
    "RecordTable",
    "RecordTables",
    "RowEncoder",
    "Schema",
    "SchemaDirectory",
    "TextColumn",
    "Type",
    "Unreadable",
    "ambiguous",
    "arrow_type",
    "audit_decoder",
    "can_be",
    "canonical_form",
    "column_array",
    "column_type",
    "complete",
    "concat",
    "decode_records",
    "field_of",
    "fixed_width",
    "in_words",
    "is_nullable",
    "keep",
    "last_year",
    "made_up",
    "missing",
    "nullable",
    "origin_decoder",
    "parse_schema",
    "record_lists",
    "schema_id_of",
    "score_decoder",
    "single_object_prefix",
    "slow_because",
    "string_maps",
    "take",
    "varint",
]
