"""What calls like a call have used: kept in sketches, shared through the store, and asked for its estimate."""
