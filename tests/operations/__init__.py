"""Situations of an operator's day on real brokers (`make operations`); docs/operations.md describes each."""
