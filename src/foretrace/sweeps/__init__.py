"""Many runs as one: a parent run, its jobs at work, and the summary of their results."""
