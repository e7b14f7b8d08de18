"""Tests, a folder per room; a package, so that rooms may have modules of the same name."""
