"""Writers: from the event log into the tables."""
