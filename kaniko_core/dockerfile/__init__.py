"""What the user wrote: pure, from text to instructions."""
