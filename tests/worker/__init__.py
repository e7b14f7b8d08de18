"""Tests of the stream room: units on doubles, the rest on the one real broker."""
