"""Spark's submission service, the programs of its jobs, and the start of its pods.

It is copied alone into an image with Debian 12's Python, so it imports nothing else of this project and runs on
Python 3.11 and later.
"""
