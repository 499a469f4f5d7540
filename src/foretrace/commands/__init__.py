"""What each command does, from its settings to its last line."""
