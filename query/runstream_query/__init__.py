"""The query service over gRPC and HTTP, and the portal."""
