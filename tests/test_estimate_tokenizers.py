"""Which tokenizer counts: rs-bpe, else tiktoken if it has its files, else none; nothing is ever downloaded."""

from __future__ import annotations

import base64
import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from budgetguard.estimate import EstimateSettings, estimate, load_tokenizers
from budgetguard.estimates.tokenizers import counter
from budgetguard.wire.apis import Api

TEXT = "Say in one word: is 2,147,483,647 prime? Скажи одним словом."
BODY = {"model": "gpt-4o", "messages": [{"role": "user", "content": TEXT}]}
API = Api("chat", "openai")
WITHOUT_RS_BPE = f"""
import socket, sys
from budgetguard.estimate import estimate
from budgetguard.wire.apis import Api

def refuse(*args, **kwargs):
    raise AssertionError("a tokenizer wants to download something")

socket.create_connection = socket.getaddrinfo = socket.socket.connect = refuse
sys.modules["rs_bpe"] = sys.modules["rs_bpe.bpe"] = None

print(estimate(Api("chat", "openai"), {BODY!r}, 200).usage.input_tokens)
"""
URL = b"https://openaipublic.blob.core.windows.net/encodings/o200k_base.tiktoken"
FILE = hashlib.sha1(URL, usedforsecurity=False).hexdigest()


def tokens(tokenizer: str) -> int:
    return estimate(API, BODY, 200, EstimateSettings(tokenizer=tokenizer)).usage.input_tokens  # type: ignore[arg-type]


def tokens_without_rs_bpe(checkout: Path, folder: Path | str) -> int:
    """What another process estimates that has neither rs-bpe nor a network, and tiktoken's files there."""
    environment = {**os.environ, "PYTHONPATH": str(checkout), "TIKTOKEN_CACHE_DIR": str(folder)}
    command = [sys.executable, "-c", WITHOUT_RS_BPE]
    return int(subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout)


def tiktokens_file() -> bytes:
    """The file that tiktoken would download, written from rs-bpe's tokens: each in base64, and its rank."""
    openai = pytest.importorskip("rs_bpe.bpe", reason="rs-bpe is not installed").openai
    tokenizer = openai.o200k_base().bpe()
    ranks = range(199_998)
    return b"".join(b"%s %d\n" % (base64.b64encode(tokenizer.decode_tokens([rank])), rank) for rank in ranks)


def test_rs_bpe_counts_exactly() -> None:
    openai = pytest.importorskip("rs_bpe.bpe", reason="rs-bpe is not installed").openai
    nothing = estimate(API, {"messages": [{"role": "user", "content": ""}]}, 0).usage.input_tokens
    assert tokens("auto") - nothing == openai.o200k_base().count(TEXT)
    assert tokens("bytes") > tokens("auto")


def test_tiktoken_counts_alike_where_its_file_is_at_hand(checkout: Path, tmp_path: Path) -> None:
    pytest.importorskip("tiktoken", reason="tiktoken is not installed")
    (tmp_path / FILE).write_bytes(tiktokens_file())
    assert tokens_without_rs_bpe(checkout, tmp_path) == tokens("auto")


@pytest.mark.parametrize("content", [None, b"", b"IQ== 0\n"], ids=["missing", "empty", "damaged"])
def test_without_its_file_tiktoken_is_left_alone(checkout: Path, tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / FILE).write_bytes(content)
    assert tokens_without_rs_bpe(checkout, tmp_path) == tokens("bytes")
    assert [file.read_bytes() for file in tmp_path.iterdir()] == ([] if content is None else [content])


def test_a_cache_that_is_switched_off_is_no_cache(checkout: Path) -> None:
    assert tokens_without_rs_bpe(checkout, "") == tokens("bytes")


def test_tokenizers_are_loaded_ahead_only_where_they_are_asked_for() -> None:
    counter.cache_clear()
    load_tokenizers(EstimateSettings(tokenizer="bytes"))
    assert counter.cache_info().currsize == 0
    load_tokenizers()
    assert counter.cache_info().currsize == 2
