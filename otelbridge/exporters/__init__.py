"""Where spans leave the process."""
