"""The program kaniko-warmer: fills a directory with base images ahead of builds."""
