"""Bytes to columns and back: Avro on Kafka.

In: Kafka values and files. Out: `Decoded` columns, framed records, typed errors.
Law: pyruhvro, fastavro and pyarrow live in this package only; a record's fault is a `Rejected`, a schema's fault is a
`SchemaError`, and no value of a batch is ever without an answer.

    frames                          the prefix that names the writer's schema
    schemas, schema_json, avro_types   where schemas are found; reading one; a schema as a tree
    codec, strict                   pyruhvro for batches; one record, byte by byte
    samples, memory                 made-up records to try a decoder on; what a batch may take
    resolve                         a field of the reader's schema -> what to do with the writer's
    arrow_columns, record_columns   doing it: for a batch, for one record
    decode, decoded, selection      values -> Decoded; joining parts of a batch; keeping rows
    encode, nested                  columns -> values; columns of lists and maps
    files, file_rows, result_file   Parquet, Avro and JSON-lines files -> framed events; results -> files
    records                         values -> dicts, for people to read; scores as columns, for verify
    synthetic                       made-up events of a schema, to try a generation with
"""

from muse_stream.wire.decode import Decoder
from muse_stream.wire.decoded import Decoded, Fields, concat, fixed_width
from muse_stream.wire.encode import Encoder
from muse_stream.wire.files import EventFile, FileChunk
from muse_stream.wire.frames import Frame
from muse_stream.wire.nested import nullable, record_lists, string_maps
from muse_stream.wire.records import PLACE, decode_records, origin_decoder, score_decoder
from muse_stream.wire.resolve import column_type
from muse_stream.wire.result_file import ResultFile
from muse_stream.wire.schemas import Schema, SchemaDirectory, parse_schema
from muse_stream.wire.selection import keep, missing
from muse_stream.wire.synthetic import Demands, made_up

__all__ = [
    "PLACE",
    "Decoded",
    "Decoder",
    "Demands",
    "Encoder",
    "EventFile",
    "Fields",
    "FileChunk",
    "Frame",
    "ResultFile",
    "Schema",
    "SchemaDirectory",
    "column_type",
    "concat",
    "decode_records",
    "fixed_width",
    "keep",
    "made_up",
    "missing",
    "nullable",
    "origin_decoder",
    "parse_schema",
    "record_lists",
    "score_decoder",
    "string_maps",
]
