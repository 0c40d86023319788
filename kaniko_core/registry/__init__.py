"""Where images come from and go to, over the network."""
