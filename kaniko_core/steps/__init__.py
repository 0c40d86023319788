"""What instructions of earlier builds made, kept under keys for builds to come."""
