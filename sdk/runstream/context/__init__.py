"""What a process can know of its surroundings."""
