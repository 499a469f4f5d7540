"""Many runs as one: the parent run of a sweep, and what it shows of its children."""
