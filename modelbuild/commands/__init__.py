"""What a user types, one module each."""
