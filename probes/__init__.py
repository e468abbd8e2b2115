"""What is seen: one module an engine with the same few functions in each, and the state of the cluster."""
