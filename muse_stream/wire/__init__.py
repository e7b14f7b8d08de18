"""Bytes to columns and back: Avro on Kafka.

In: Kafka values and files. Out: `Decoded` columns, framed records, typed errors.
Law: pyruhvro, fastavro and pyarrow live in this package only; a record's fault is a `Rejected`, a schema's fault is a
`SchemaError`, and no value of a batch is ever without an answer.

    frames       the prefix that names the writer's schema        schemas, avro_types   where schemas are found, as trees
    codec        pyruhvro for batches, fastavro for records        strict                where one record ends
    resolve      reader's field -> what to do with the writer's    arrow_columns, record_columns   doing it
    decode       values -> Decoded                                 decoded               joining parts of a batch
    encode       columns -> values                                 files                 Parquet, Avro and JSON-lines files
    records      values -> dicts, for people to read
"""

from muse_stream.wire.decode import Decoder
from muse_stream.wire.decoded import Decoded, Fields, concat, fixed_width
from muse_stream.wire.encode import Encoder
from muse_stream.wire.frames import Frame
from muse_stream.wire.resolve import column_type
from muse_stream.wire.schemas import Schema, SchemaDirectory, parse_schema

__all__ = [
    "Decoded",
    "Decoder",
    "Encoder",
    "Fields",
    "Frame",
    "Schema",
    "SchemaDirectory",
    "column_type",
    "concat",
    "fixed_width",
    "parse_schema",
]
