"""Buckets of moto's server, which stands for Amazon."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import botocore.session
from moto.server import ThreadedMotoServer


@contextmanager
def amazon_bucket(name: str, objects: Mapping[str, bytes]) -> Iterator[str]:
    """Serve a bucket with *objects* until the block ends; give the endpoint."""
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        endpoint = f"http://{host}:{port}"
        client = botocore.session.get_session().create_client(
            *("s3", "us-east-1"),
            endpoint_url=endpoint,
            aws_access_key_id="anybody",
            aws_secret_access_key="anything",
        )
        client.create_bucket(Bucket=name)
        for key, content in objects.items():
            client.put_object(Bucket=name, Key=key, Body=content)
        yield endpoint
    finally:
        server.stop()
