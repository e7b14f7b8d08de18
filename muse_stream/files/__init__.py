"""Files of events and files of results: JSON lines, Parquet, Avro containers.

event_file                      rows of a file -> framed events of a schema
json_lines, container, parquet  a file of each kind -> its rows as Python values
rows, values                    the rules: such a value -> what an Avro schema writes; times that Python has not
binary, table                   that as Avro bytes; the short cut for Parquet columns that need no look at values
plain_rows                      any table as dictionaries, with no schema but its own
columns, moments, labelled      some columns of a large table in chunks; a column of times; labelled history by periods
record_file                     score and audit records -> one table for analysts
result_file                     records -> a file that appears whole or not at all
"""

from muse_stream.files.columns import TABLES, column_chunks, row_count
from muse_stream.files.event_file import EVENT_FILES, EventFile, Events, FileChunk, InvalidRow
from muse_stream.files.json_lines import ENCODINGS, Encoding
from muse_stream.files.labelled import Chunk, History, LabelledRows, moment
from muse_stream.files.moments import moments_of
from muse_stream.files.plain_rows import read_columns, read_rows
from muse_stream.files.record_file import RecordFile
from muse_stream.files.result_file import ResultFile
from muse_stream.files.values import Timestamp, parsed_timestamp, plain

__all__ = [
    "ENCODINGS",
    "EVENT_FILES",
    "TABLES",
    "Chunk",
    "Encoding",
    "EventFile",
    "Events",
    "FileChunk",
    "History",
    "InvalidRow",
    "LabelledRows",
    "RecordFile",
    "ResultFile",
    "Timestamp",
    "column_chunks",
    "moment",
    "moments_of",
    "parsed_timestamp",
    "plain",
    "read_columns",
    "read_rows",
    "row_count",
]
