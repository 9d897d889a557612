"""What every test has: `--long`, the shared data, Hypothesis settings that print how to repeat a failure.

A test also fails if asyncio logs an error meanwhile: an exception that nobody fetched, a task destroyed while pending.
"""

from __future__ import annotations

import gc
import logging
import ssl
import uuid
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis
import pytest

if TYPE_CHECKING:
    from guard_kit import World
    from postgres_kit import Books, PostgresServer
    from redis_cluster_kit import Cluster
    from redis_kit import RedisServer
    from redis_world import RedisWorld

    from budgetguard.testing import FakeProvider

CHECKOUT = Path(__file__).resolve().parent.parent

hypothesis.settings.register_profile("budgetguard", deadline=None, print_blob=True, derandomize=False)
hypothesis.settings.load_profile("budgetguard")
hypothesis.settings.register_profile(  # for `test_mutants`, which asks whether a test fails, not on how little
    "unshrunk", phases=[hypothesis.Phase.explicit, hypothesis.Phase.generate], deadline=None, database=None
)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--long", action="store_true", help="run the tests marked `long` too; they take minutes")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: "early" not in item.keywords)
    if config.getoption("--long"):
        return
    for item in items:
        if "long" in item.keywords:
            item.add_marker(pytest.mark.skip(reason="takes minutes: run with --long"))


def pytest_collection_finish() -> None:
    """What is imported by now stays: no collection of garbage walks through it again. Several SDKs are among it."""
    gc.collect()
    gc.freeze()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run the tests of a module with `STORES` on each of these, if they have a `world` and do not choose its store."""
    stores = getattr(metafunc.module, "STORES", ())
    chosen = any(mark.args[0] == "world" for mark in metafunc.definition.iter_markers("parametrize"))
    if stores and not chosen and "world" in metafunc.fixturenames:
        metafunc.parametrize("world", stores, indirect=True)


class Complaints(logging.Handler):
    """Keeps what is logged."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(self.format(record))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    complaints, logger = Complaints(), logging.getLogger("asyncio")
    logger.addHandler(complaints)
    try:
        result = yield
    finally:
        logger.removeHandler(complaints)
    if complaints.texts:
        pytest.fail(f"asyncio complained in {item.name}:\n" + "\n".join(complaints.texts), pytrace=False)
    return result


@pytest.fixture(scope="session", autouse=True)
def _authorities() -> Iterator[None]:
    """Authorities' certificates are looked up in their folder: to read all of them takes each HTTP client 30 ms."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("SSL_CERT_FILE", raising=False)
        patch.setenv("SSL_CERT_DIR", ssl.get_default_verify_paths().openssl_capath)
        yield


@pytest.fixture(scope="session")
def checkout() -> Path:
    """The top folder of the project."""
    return CHECKOUT


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of shared data beside the checkout: real traces, recorded traffic. It is not part of the project."""
    folder = CHECKOUT.parent / "shared"
    if not (folder / "traces").is_dir():
        pytest.skip("needs the shared data beside the checkout (../shared), which is not here")
    return folder


@pytest.fixture
def world(request: pytest.FixtureRequest, tmp_path: Path, state_home: None) -> World:
    """A store on a clock that stands still, and what the guards on it tell; the user's state is under `tmp_path`.

    A file, unless a test asks for "redis"; those of a module with `STORES` are run on each of these.
    """
    from guard_kit import World

    if getattr(request, "param", "sqlite") == "redis":
        from redis_clock_world import RedisClockWorld

        server = request.getfixturevalue("redis_server")
        return RedisClockWorld(tmp_path, server, request.getfixturevalue("namespace"))
    return World(tmp_path)


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    """A real redis-server that all tests share: each keeps to its own `namespace`, and leaves the server as it is."""
    from redis_kit import MISSING, RedisServer, has_redis

    if not has_redis():
        pytest.skip(MISSING)
    with RedisServer() as server:
        yield server


@pytest.fixture(scope="session")
def redis_cluster() -> Iterator[Cluster]:
    """A real cluster of three nodes, which tests share: slots may be moved, keys of a test's own are deleted by it."""
    from redis_cluster_kit import Cluster
    from redis_kit import MISSING, has_redis

    if not has_redis():
        pytest.skip(MISSING)
    with Cluster() as cluster:
        yield cluster


@pytest.fixture
def redis_url(redis_server: RedisServer) -> str:
    """The URL of the shared redis-server."""
    return redis_server.url


@pytest.fixture
def namespace(redis_server: RedisServer) -> Iterator[str]:
    """A namespace of the shared redis-server for one test; after it, no key may last but those that DESIGN 5 names."""
    from redis_kit import tidy_namespace

    with tidy_namespace(redis_server, f"t{uuid.uuid4().hex}") as name:
        yield name


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """A real PostgreSQL that all tests share: each keeps to its own `books`, and leaves the server running."""
    from postgres_kit import PostgresServer

    server = PostgresServer()
    yield server
    server.close()


@pytest.fixture
def postgres(postgres_server: PostgresServer) -> Books:
    """A ledger of its own in the shared PostgreSQL, with nothing in it."""
    from postgres_kit import Books

    return Books(postgres_server, f"t{uuid.uuid4().hex}")


@pytest.fixture
def state_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The user's state, spools above all, is under `tmp_path`."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


@pytest.fixture
def provider() -> Iterator[FakeProvider]:
    """A local provider of one model, which keeps its own bill."""
    from guard_kit import MODEL

    from budgetguard.testing import FakeProvider, ProviderPrice

    with FakeProvider.in_thread({MODEL: ProviderPrice(1_000_000, 2_000_000)}) as found:
        yield found


@pytest.fixture
def redis_world(redis_server: RedisServer, namespace: str, state_home: None) -> RedisWorld:
    """A namespace of the shared redis-server, and what the guards on it tell."""
    from redis_world import RedisWorld

    return RedisWorld(redis_server, namespace)


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Of a ledger that nobody has made yet, in each of the databases."""
    if request.param == "postgres":
        return str(request.getfixturevalue("postgres").url)
    return f"sqlite:///{tmp_path / 'ledger.db'}"
