"""What earlier builds made, as far as it goes with this one: keys, the choice, and why not."""
