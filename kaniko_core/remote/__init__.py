"""What ADD, named contexts and ``-f`` fetch from elsewhere: files over HTTP, git repositories."""
