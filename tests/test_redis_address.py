"""The URL of a Redis says where it is and how to log in, or what is wrong with it, and never its password."""

from __future__ import annotations

from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from budgetguard.errors import ConfigError
from budgetguard.stores.redis.address import Address, Endpoint, Login, Tls, parse_address

HERE = Endpoint("h", 6379)
SECRET = "hunter2"
LOGINS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=20)


def address(**fields: object) -> Address:
    """A fixed one at `h`, but for these fields."""
    return Address(**{"kind": "fixed", "endpoints": (HERE,), **fields})


def fault_of(url: str) -> str:
    """What is said about it; nothing if it is right."""
    try:
        parse_address(url)
    except ConfigError as error:
        return str(error)
    return ""


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("redis://h", address()),
        ("redis://h/", address()),
        ("redis://h:7000/3", address(endpoints=(Endpoint("h", 7000),), db=3)),
        ("redis://h?db=3", address(db=3)),
        ("redis://user:p%40ss%2F@h", address(login=Login("user", "p@ss/"))),
        ("redis://:p:w@h", address(login=Login("", "p:w"))),
        ("redis://a@b:c@h", address(login=Login("a@b", "c"))),
        ("redis://user@h", address(login=Login("user", ""))),
        ("redis://[::1]:7000/2", address(endpoints=(Endpoint("::1", 7000),), db=2)),
        ("redis://[fe80::1%25eth0]", address(endpoints=(Endpoint("fe80::1%eth0", 6379),))),
        ("unix:///run/redis.sock", address(endpoints=(Endpoint(path="/run/redis.sock"),))),
        (
            "unix://u:p@/run/a%20b@c.sock?db=4",
            address(endpoints=(Endpoint(path="/run/a b@c.sock"),), login=Login("u", "p"), db=4),
        ),
        ("rediss://h", address(tls=Tls())),
        (
            "rediss://h?ssl_ca_certs=%2Fca.pem&ssl_certfile=/c.pem&ssl_keyfile=/k.pem&ssl_cert_reqs=optional"
            "&ssl_check_hostname=No",
            address(tls=Tls("optional", False, "/ca.pem", "/c.pem", "/k.pem")),
        ),
        (
            "redis+sentinel://u:p@s1,s2:7/main/2?sentinel_username=s&sentinel_password=x%26y",
            address(
                kind="sentinel", endpoints=(Endpoint("s1", 26379), Endpoint("s2", 7)), login=Login("u", "p"),
                db=2, master="main", sentinel_login=Login("s", "x&y"),
            ),
        ),
        ("redis+sentinel://h:6379/a%2Fb", address(kind="sentinel", master="a/b")),
        ("rediss+sentinel://h:6379/m", address(kind="sentinel", master="m", tls=Tls())),
        ("redis+cluster://h,[::1]:7,h", address(kind="cluster", endpoints=(HERE, Endpoint("::1", 7)))),
        ("rediss+cluster://h/0?ssl_cert_reqs=none", address(kind="cluster", tls=Tls("none"))),
    ],
)  # fmt: skip
def test_a_url_says_where_and_how(url: str, said: Address) -> None:
    assert parse_address(url) == said


@pytest.mark.parametrize(
    ("url", "fault"),
    [
        (f"http://{SECRET}@h", "expected a URL such as redis://"),
        (SECRET, "expected a URL such as redis://"),
        (f"redisss://:{SECRET}@h", "expected a URL such as redis://"),
        (f"redis://:{SECRET}/x@h", "percent-encoded"),
        (f"redis://:x/{SECRET}@h:1/0", "percent-encoded"),
        (f"redis://:x?{SECRET}@h", "percent-encoded"),
        (f"redis://:x#{SECRET}@h", "percent-encoded"),
        (f"redis://:{SECRET}@", "a host must be there"),
        (f"redis://:{SECRET}@:6379", "a host must be there"),
        (f"redis://:{SECRET}@h/{SECRET}", "the database must be a number"),
        (f"redis://:{SECRET}@h/9999999999", "the database must be a number"),
        (f"redis://:{SECRET}@h/1?db=1", "the database must be said once"),
        (f"redis://:{SECRET}@h:{SECRET}", "a port must be a number from 1 to 65535"),
        (f"redis://:{SECRET}@h:0", "a port must be a number from 1 to 65535"),
        (f"redis://:{SECRET}@h:65536", "a port must be a number from 1 to 65535"),
        (f"redis://:{SECRET}@h:", "a port must be a number from 1 to 65535"),
        (f"redis://:{SECRET}@::1", "must stand in brackets"),
        (f"redis://:{SECRET}@[::1", "[::1]:6379"),
        (f"redis://:{SECRET}@[::1]6379", "[::1]:6379"),
        (f"redis://:{SECRET}@[127.0.0.1]", "[::1]:6379"),
        (f"redis://:{SECRET}@h,h2", "several hosts need a URL that begins with redis+sentinel or redis+cluster"),
        (f"redis://:{SECRET}@h?ssl_ca_certs=x", "needs a URL that begins with rediss"),
        (f"redis://:{SECRET}@h?sentinel_password={SECRET}", "belongs to sentinels"),
        (f"redis://:{SECRET}@h?socket_timeout=3", "known are db"),
        (f"rediss://:{SECRET}@h?ssl_ca_cert={SECRET}", "did you mean ssl_ca_certs?"),
        (f"rediss://:{SECRET}@h?db=1&{SECRET}=1", "parameter 2 after the ? is not known"),
        (f"rediss://:{SECRET}@h?ssl_certfile", "must stand once, as ssl_certfile=value"),
        (f"rediss://:{SECRET}@h?ssl_certfile=a&ssl_certfile={SECRET}", "must stand once"),
        (f"rediss://:{SECRET}@h?ssl_cert_reqs={SECRET}", "one of required, optional, none"),
        (f"rediss://:{SECRET}@h?ssl_check_hostname={SECRET}", "must be true or false"),
        (f"rediss://:{SECRET}@h?ssl_keyfile={SECRET}", "ssl_keyfile needs ssl_certfile"),
        (f"redis://:{SECRET}%ff@h", "must be UTF-8"),
        (f"redis://:{SECRET}%00@h", "NUL"),
        (f"unix://:{SECRET}@host/run/redis.sock", "three slashes"),
        (f"unix://:{SECRET}@", "three slashes"),
        (f"redis+sentinel://:{SECRET}@h", "name of the master must follow"),
        (f"redis+sentinel://:{SECRET}@h//0", "name of the master must follow"),
        (f"redis+sentinel://:{SECRET}@h/m/{SECRET}", "the database must be a number"),
        (f"redis+sentinel://:{SECRET}@h,,h2/m", "a host must be there"),
        (f"redis+sentinel://:{SECRET}@h/m?sentinel_password=a&{SECRET}", "parameter 2 after the ? is not known"),
        (f"redis+cluster://:{SECRET}@h/1", "a cluster has the database 0 only"),
        (f"redis+cluster://:{SECRET}@h?db=1", "none is, in this kind of URL"),
    ],
)
def test_a_wrong_url_is_told_what_was_expected_and_nothing_of_it(url: str, fault: str) -> None:
    with pytest.raises(ConfigError, match=r"^store\.url") as caught:
        parse_address(url)
    assert fault in str(caught.value)
    assert "expected" in str(caught.value)
    assert SECRET not in str(caught.value)
    assert caught.value.__cause__ is None


@given(LOGINS, LOGINS)
def test_any_user_and_password_can_be_percent_encoded(user: str, password: str) -> None:
    login = f"{quote(user, safe='')}:{quote(password, safe='')}"
    for url in (f"redis://{login}@h", f"redis+cluster://{login}@h", f"unix://{login}@/run/redis.sock"):
        assert parse_address(url).login == Login(user, password)
    sentinel = parse_address(f"redis+sentinel://{login}@h/m?sentinel_password={quote(password, safe='')}")
    assert (sentinel.login, sentinel.sentinel_login) == (Login(user, password), Login("", password))


@given(LOGINS.filter(lambda text: not text.isascii()), LOGINS, st.sampled_from([
    "redis://{}@h/x", "redis://h/{}", "redis://h:{}", "redis://h?{}", "redis://{}", "rediss://h?ssl_cert_reqs={}",
    "redis+sentinel://:{}@h", "redis+sentinel://h/{}/x", "unix://{}", "redis+cluster://h/{}",
]))  # fmt: skip
def test_nothing_of_a_wrong_url_is_shown_whatever_it_is(secret: str, more: str, shape: str) -> None:
    assert fault_of(shape.format(secret + more)).isascii()


def test_no_password_is_shown() -> None:
    said = parse_address(f"rediss+sentinel://user:{SECRET}@s1,[::1]:7/main/2?sentinel_password={SECRET}")
    assert SECRET not in repr(said)
    assert "user" in repr(said)
    assert str(said) == "rediss+sentinel://s1:26379,[::1]:7/main/2"
    assert str(parse_address(f"unix://:{SECRET}@/run/redis.sock")) == "unix:///run/redis.sock"
    assert str(parse_address(f"redis+cluster://:{SECRET}@h")) == "redis+cluster://h:6379"
