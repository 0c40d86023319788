"""Archives as contexts: a tar, plain or compressed, becomes a directory while it arrives."""
