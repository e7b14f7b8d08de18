"""Tests of wire/: frames, schemas, decoding, encoding, files."""
