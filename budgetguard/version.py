"""The version of the library: what `pyproject.toml`, the command line and each ledger row say."""

VERSION = "0.1.0"
