"""What is attested about an image: how it was made, and what is in it."""
