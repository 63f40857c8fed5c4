"""A real S3 server on the loopback address, in threads of this process: moto's."""

from __future__ import annotations

import contextlib
import itertools
import urllib.request
from typing import TYPE_CHECKING

import fsspec

if TYPE_CHECKING:
    from collections.abc import Iterator

_numbers = itertools.count()
_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class S3:
    """One server; buckets are made as they are asked for."""

    def __init__(self) -> None:
        from moto.server import ThreadedMotoServer

        self._server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)

    def start(self) -> None:
        """Take requests."""
        clients_forget()
        self._server.start()

    def stop(self) -> None:
        """Take none any more, and forget everything."""
        self._server.stop()

    @property
    def env(self) -> dict[str, str]:
        """What a machine that may use it has in its environment."""
        _, port = self._server.get_host_and_port()
        return {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
            "AWS_ACCESS_KEY_ID": "key-of-the-tests",
            "AWS_SECRET_ACCESS_KEY": "secret-of-the-tests",
            "AWS_DEFAULT_REGION": "us-east-1",
            # Neither files of an account nor a service of a cloud machine is asked.
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": "/dev/null",
            "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
            "NO_PROXY": "127.0.0.1",
        }

    def bucket(self) -> str:
        """Make an empty bucket; a URL within it."""
        name = f"bucket-{next(_numbers)}"
        self._ask("PUT", f"/{name}")
        return f"s3://{name}/some/prefix"

    @contextlib.contextmanager
    def strict(self) -> Iterator[None]:
        """Have it refuse keys that it does not know, which are all of them."""
        self._auth("0")
        try:
            yield
        finally:
            self._auth("inf")

    def _auth(self, unchecked: str) -> None:
        self._ask("POST", "/moto-api/reset-auth", unchecked.encode())

    def _ask(self, method: str, path: str, data: bytes = b"") -> None:
        url = f"{self.env['AWS_ENDPOINT_URL']}{path}"
        headers = {"Content-Type": "application/octet-stream"}
        request = urllib.request.Request(url, data=data, method=method, headers=headers)
        with _opener.open(request, timeout=10) as answer:
            assert answer.status == 200


def clients_forget() -> None:
    """Have the next store look at the environment: drivers keep a client for each thread."""
    fsspec.get_filesystem_class("s3").clear_instance_cache()
