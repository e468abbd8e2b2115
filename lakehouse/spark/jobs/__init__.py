"""The programs that Spark's drivers run; each writes one JSON object as its result."""
