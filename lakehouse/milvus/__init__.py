"""The stand-in for Milvus's server: its architecture around the engine of milvus-lite.

Metadata is in etcd under Milvus's own key layout, rows are acknowledged when they are in a replicated Kafka log and
applied, segments are flushed to an object store, and replicas keep nothing that they could not make again from these.
"""
