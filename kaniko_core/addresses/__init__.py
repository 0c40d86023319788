"""What an address means: URLs, and references to git repositories. Pure: nothing is fetched."""
