"""Files of events and files of results: JSON lines, Parquet, Avro containers.

event_file   rows of a file -> framed events of a schema
rows, table  a row, or a whole Parquet table, as values and columns that an Avro schema can write
result_file  records -> a file that appears whole or not at all
"""

from muse_stream.files.event_file import EventFile, FileChunk
from muse_stream.files.result_file import ResultFile

__all__ = [
    "EventFile",
    "FileChunk",
    "ResultFile",
]
