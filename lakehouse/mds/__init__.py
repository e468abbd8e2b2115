"""MDS, the metadata service: a stateless Iceberg REST catalogue over Postgres.

pyiceberg's `SqlCatalog` is the catalogue; this package is the HTTP service around it. It is copied alone into an image
with Debian 12's Python, so it imports nothing else of this project and runs on Python 3.11 and later.
"""
