"""Recordings of any maker: files in, `Sequences` out, by way of an embedded table engine."""

from foretrace.data.tables.read import Recordings, read_recordings

__all__ = ["Recordings", "read_recordings"]
