"""The sender: takes what scripts left in their spools to the server. One process per user and spool root."""
