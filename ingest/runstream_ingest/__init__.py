"""The ingest service and the writers that move the event log into the store."""
