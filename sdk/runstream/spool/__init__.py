"""The spool: what a training process leaves on its own disk, and the sender takes from there."""
