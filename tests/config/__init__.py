"""Tests of the configuration: every rule by a change of the example in deploy/config."""
