"""Event log, tables, objects and hot state behind small interfaces."""
