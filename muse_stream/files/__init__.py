"""Files of events and files of results: JSON lines, Parquet, Avro containers.

event_file   rows of a file -> framed events of a schema
rows, table  a row, or a whole Parquet table, as values and columns that an Avro schema can write
plain_rows   any table as dictionaries, with no schema but its own
result_file  records -> a file that appears whole or not at all
"""

from muse_stream.files.event_file import EventFile, FileChunk
from muse_stream.files.plain_rows import read_rows
from muse_stream.files.result_file import ResultFile

__all__ = [
    "EventFile",
    "FileChunk",
    "ResultFile",
    "read_rows",
]
