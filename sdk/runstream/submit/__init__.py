"""Runs a script under a run of its own: snapshot, environment, supervised process, executors."""
