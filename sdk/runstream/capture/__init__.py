"""What is recorded of a run without being asked for: output, logs, source, system figures."""
