"""For all tests: one thread (tensors are small, and two workers share two cores), no hub, and an S3 server."""

import os

os.environ["OMP_NUM_THREADS"] = "1"  # before anything imports torch; the commands that tests start have it too
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

from collections.abc import Iterator

import pytest

from tests.helpers.web import Browser, chromium


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium, for as long as a module's tests: it starts in a second, and its event loop is no other test's."""
    with chromium() as running:
        yield running


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """An S3 server with a bucket named `bucket`; the environment that leads to it, set here too."""
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    environment = {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": str(tmp_path_factory.mktemp("aws") / "none"),
    }
    before = dict(os.environ)
    os.environ.update(environment)
    boto3.client("s3").create_bucket(Bucket="bucket")
    yield environment
    server.stop()
    os.environ.clear()
    os.environ.update(before)
