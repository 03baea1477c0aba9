"""Configuration, commands and the one-process server."""
