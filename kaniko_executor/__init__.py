"""The program kaniko-executor: builds an image from a Dockerfile, and pushes it."""
