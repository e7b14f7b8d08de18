"""Tests of `muse_stream.avro`: frames, schemas, decoding, encoding."""
