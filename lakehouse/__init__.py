"""The system under test: images, manifests, and the few services written here."""
