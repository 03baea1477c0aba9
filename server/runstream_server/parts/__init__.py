"""The parts of a server process, each loaded only where it works: a writer starts without gRPC and pages."""
