"""The pressure: one Locust user class an engine, the ledger of acknowledged writes, the recorder."""
