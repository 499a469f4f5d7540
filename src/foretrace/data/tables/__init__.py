"""Recordings of any maker: files in, `Sequences` out, by way of an embedded table engine; see `read`."""
