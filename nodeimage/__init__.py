"""A kind node image from packages, for machines that reach no container registry."""
