"""`ledger reconcile`: a provider's export beside the ledger, by day and model; every difference, exactly."""

from __future__ import annotations

import csv
import io
import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from cli_kit import Ended, command
from drain_kit import NAMESPACE, row
from store_kit import amounts, info, instant_ms

from budgetguard.core.model import UsageRow
from budgetguard.core.verbs import Row
from budgetguard.errors import ConfigError
from budgetguard.ledger import open_ledger
from budgetguard.ledger.reconciling import name_in, parse_tolerance
from budgetguard.ledger.usage_files import read_usage_file

MINI, HAIKU = "gpt-4o-mini-2024-07-18", "claude-haiku-4-5-20251001"


def call(id: str, at: str, model: str, provider: str, tokens: tuple[int, int], cost_nanousd: int | None) -> Row:
    labels = {"team": "t", "model": model, **({"provider": provider} if provider else {})}
    made = row(id, info=info(amounts(1), **labels), usage=UsageRow(*tokens, cost_nanousd=cost_nanousd))
    return made._replace(timestamp_ms=instant_ms(at))


CALLS = [
    call("1", "2026-11-01T00:00:00+00:00", "gpt-4o-mini", "openai", (1_000, 100), 210_000),
    call("2", "2026-11-01T23:59:59.999+00:00", "gpt-4o-mini", "openai", (2_000, 200), 420_000),
    call("3", "2026-11-02T00:00:00+00:00", "gpt-4o-mini", "openai", (10, 1), 2_101),
    call("4", "2026-11-01T12:00:00+00:00", HAIKU, "anthropic", (500, 50), 750_000),
    call("5", "2026-11-01T12:00:00+00:00", "gpt-4o-mini", "", (5, 5), None),
    call("6", "2026-11-03T00:00:00+00:00", "gpt-4o-mini", "openai", (7, 7), 1),
    call("7", "2026-11-01T12:00:00+00:00", "other", "", (5, 5), 9),
]
OPENAI_USAGE = f"""\ufeffstart_time,end_time,start_time_iso,end_time_iso,project_id,num_model_requests,model,\
batch,input_tokens,output_tokens,input_cached_tokens
1793491200,1793491260,2026-11-01T00:00:00+00:00,2026-11-01T00:01:00+00:00,p,1.0,{MINI},,1000,100,0
1793491200,1793491260,2026-11-01T00:00:00+00:00,2026-11-01T00:01:00+00:00,q,2.0,{MINI},,2005.0,205,0
1793577600,1793577660,2026-11-02T00:00:00+00:00,2026-11-02T00:01:00+00:00,,,,,,,
"""
OPENAI_COST = """start_time,end_time,start_time_iso,end_time_iso,amount_value,amount_currency,quantity,\
quantity_unit,line_item,user_id
1793491200,1793577600,2026-11-01T00:00:00+00:00,2026-11-02T00:00:00+00:00,0.000450000000000000000000000000,usd,,\
,"gpt-4o-mini-2024-07-18, input",
1793491200,1793577600,2026-11-01T00:00:00+00:00,2026-11-02T00:00:00+00:00,0.00018,usd,,,"gpt-4o-mini-2024-07-18,\
 output",
1793577600,1793664000,2026-11-02T00:00:00+00:00,2026-11-03T00:00:00+00:00,0.0000021,usd,,,\
"gpt-4o-mini-2024-07-18, input",
"""
ANTHROPIC_USAGE = f"""usage_date_utc,model_version,api_key,workspace,usage_type,context_window,\
usage_input_tokens_no_cache,usage_input_tokens_cache_write_5m,usage_input_tokens_cache_write_1h,\
usage_input_tokens_cache_read,usage_output_tokens,web_search_count,inference_geo,speed
2026-11-01,{HAIKU},k,Default,standard,\u2264 200k,100,150,50,200,50,0,global,
"""
ANTHROPIC_COST = """usage_date_utc,model,workspace,api_key,usage_type,context_window,token_type,cost_usd,\
list_price_usd,cost_type,inference_geo,speed
2026-11-01,Claude Haiku 4.5,Default,k,message,\u2264 200k,input_no_cache,0.00050,0.0005,token,global,
2026-11-01,Claude Haiku 4.5,Default,k,message,\u2264 200k,output,0.00025,0.00025,token,global,
"""
PLAIN = """Day,Model,Requests,Input Tokens,Output Tokens,Cost
2026-11-01,gpt-4o-mini,3,3005,305,$0.00063
2026-11-01,claude-haiku-4-5,1,500,50,7.5e-4
2026-11-01,other,1,5,5,0.000000009
"""


@pytest.fixture(params=["sqlite", "postgres"])
def any_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "postgres":
        return filled(str(request.getfixturevalue("postgres").url))
    return filled(f"sqlite:///{tmp_path / 'l.db'}")


@pytest.fixture
def url(tmp_path: Path) -> str:
    return filled(f"sqlite:///{tmp_path / 'l.db'}")


def filled(url: str, *more: Row) -> str:
    ledger = open_ledger(url)
    ledger.write([(NAMESPACE, one) for one in (*CALLS, *more)])
    ledger.write([("other", CALLS[0])])
    ledger.close()
    return url


def reconcile(folder: Path, url: str, text: str, *more: str) -> Ended:
    (folder / "export.csv").write_text(text, encoding="utf-8")
    where = ("--ledger", url, "--namespace", NAMESPACE)
    return command(folder, "ledger", "reconcile", "export.csv", *where, *more)


def told(done: Ended) -> list[dict[str, Any]]:
    found = json.loads(done.out)
    assert isinstance(found, list)
    return found


def test_openais_usage_is_that_of_the_ledger_where_every_call_was_guarded(any_url: str, tmp_path: Path) -> None:
    """The dated name is the plain one; who has no provider counts where its model does; of 2 November only the ledger
    knows.
    """
    done = reconcile(tmp_path, any_url, OPENAI_USAGE, "--format", "json")
    first, second, total = told(done)
    assert done.code == 1
    assert first == {
        "line": "line", "day": "2026-11-01", "model": MINI, "ledger_calls": 3, "file_calls": 3, "difference_calls": 0,
        "ledger_input_tokens": 3_005, "file_input_tokens": 3_005, "difference_input_tokens": 0,
        "ledger_output_tokens": 305, "file_output_tokens": 305, "difference_output_tokens": 0, "differing": [],
    }  # fmt: skip
    assert (second["day"], second["model"], second["file_calls"]) == ("2026-11-02", MINI, 0)
    assert (second["ledger_calls"], second["difference_input_tokens"]) == (1, 10)
    assert second["differing"] == ["calls", "input_tokens", "output_tokens"]
    assert (total["line"], total["day"], total["ledger_calls"], total["difference_calls"]) == ("total", None, 4, 1)
    assert "OpenAI's usage export, 2026-11-01 to 2026-11-02, with calls to openai of prod: 1 of 2 differ" in done.err


def test_openais_costs_are_compared_to_the_last_digit(url: str, tmp_path: Path) -> None:
    done = reconcile(tmp_path, url, OPENAI_COST, "--format", "json")
    first, second, total = told(done)
    assert (first["ledger_cost_usd"], first["file_cost_usd"], first["differing"]) == ("0.00063", "0.00063", [])
    assert (second["ledger_cost_usd"], second["file_cost_usd"]) == ("0.000002101", "0.0000021")
    assert (second["difference_cost_usd"], second["differing"], done.code) == ("0.000000001", ["cost_usd"], 1)
    assert total["difference_cost_usd"] == "0.000000001"
    assert reconcile(tmp_path, url, OPENAI_COST, "--tolerance", "0.000000001").code == 0
    assert reconcile(tmp_path, url, OPENAI_COST, "--tolerance", "$0.0000000009").code == 1
    assert reconcile(tmp_path, url, OPENAI_COST, "--tolerance", "0.05%").code == 0
    assert reconcile(tmp_path, url, OPENAI_COST, "--tolerance", "0.04%").code == 1


def test_costs_that_are_not_by_model_are_compared_by_day(url: str, tmp_path: Path) -> None:
    text = "start_time,amount_value,amount_currency,line_item\n1793491200,0.00063,usd,\n"
    done = reconcile(tmp_path, url, text, "--format", "json")
    line, _ = told(done)
    assert (line["model"], line["ledger_cost_usd"], done.code) == (None, "0.000630009", 1), "and a model of nobody's"


@pytest.mark.parametrize("text", [ANTHROPIC_USAGE, ANTHROPIC_COST])
def test_anthropics_exports_agree(url: str, tmp_path: Path, text: str) -> None:
    done = reconcile(tmp_path, url, text, "--format", "json")
    assert (done.code, len(told(done))) == (0, 2), done.out
    assert "with calls to anthropic of prod: 0 of 1 differ" in done.err


def test_a_plain_file_is_compared_with_all_calls_or_with_those_to_one(url: str, tmp_path: Path) -> None:
    done = reconcile(tmp_path, url, PLAIN, "--format", "json")
    assert (done.code, "with all calls of prod: 0 of 3 differ" in done.err) == (0, True), done.out
    assert "\n1 call of the ledger without a known price, counted as $0\n" in done.err
    credit = "2026-11-01,gpt-4o-mini,,,,$0.01\n2026-11-01,gpt-4o-mini,,,,-$0.01\n"
    for sign in ";\t":
        done = reconcile(tmp_path, url, (PLAIN + credit).replace(",", sign), "--format", "json")
        assert (done.code, "0 of 3 differ" in done.err) == (0, True), (sign, done.out)
    done = reconcile(tmp_path, url, PLAIN, "--format", "json", "--provider", "anthropic")
    assert [(line["model"], line["ledger_calls"]) for line in told(done)] == [
        ("claude-haiku-4-5", 1), ("gpt-4o-mini", 1), ("other", 1), (None, 3)
    ]  # fmt: skip


def test_the_table_has_the_lines_that_differ_and_the_sum_of_all(url: str, tmp_path: Path) -> None:
    done = reconcile(tmp_path, url, PLAIN.replace("305", "306"))
    titles, line, _ = done.out.splitlines()
    assert titles.split() == [
        "Day", "Model", "Output", "tokens", "in", "file", "difference", "Cost", "in", "file", "difference"
    ]  # fmt: skip
    assert line.split() == ["2026-11-01", "gpt-4o-mini", "305", "306", "-1", "$0.00063", "$0.00063", "$0.00"]
    assert done.out.splitlines()[-1].split() == ["(total)", "360", "361", "-1", *["$0.001380009"] * 2, "$0.00"]
    assert reconcile(tmp_path, url, PLAIN).out.splitlines()[1].startswith("(total)")


def test_names_of_a_file_are_written_safely_into_every_form(url: str, tmp_path: Path) -> None:
    text = 'day,model,requests\n2026-11-01,"=cmd()\x1b[31m",1\n2026-11-01,@x,1\n'
    out = {form: reconcile(tmp_path, url, text, "--format", form).out for form in ("table", "csv", "json")}
    assert not any("\x1b" in one for one in out.values())
    models = [line["model"] for line in csv.DictReader(io.StringIO(out["csv"]))]
    assert {"'=cmd()\\x1b[31m", "'@x"} < set(models)
    assert "=cmd()\x1b[31m" in [line["model"] for line in json.loads(out["json"])]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "it is empty"),
        ("\n\n", "it is empty"),
        ("day,model,cost\n", "it has a header and no lines"),
        ("when,what\n1,2\n", "its columns are 'when', 'what': needed are day, model and some of requests"),
        ("day|model|cost\n2026-11-01|m|1\n", "its columns are 'day|model|cost'"),
        ("\nday;model;cost\n2026-11-01;m;1,5\n", "line 3: cost: expected dollars such as 1.25, not '1,5'"),
        ("day,model\n2026-11-01,m\n", "its columns are 'day', 'model'"),
        ("day,model,cost,Cost\n2026-11-01,m,1,1\n", "line 1: it has two columns 'cost'"),
        ("day,model,cost\n2026-11-01,m,1\n\n2026-11-02,m\n", "line 4: it has 2 cells and the header 3"),
        ('day,model,cost\n2026-11-01,"a\nb",1\nx,m,1\n', "line 4: day: expected a day such as 2026-11-22, not 'x'"),
        ("day,model,cost\n2026-11-01,m,1.2.3\n", "line 2: cost: expected dollars such as 1.25, not '1.2.3'"),
        ("day,model,cost\n2026-11-01,m,NaN\n", "line 2: cost: expected dollars"),
        ('day,model,cost\n2026-11-01,m,"1,25"\n', "line 2: cost: expected dollars such as 1.25, not '1,25'"),
        ("day,model,requests\n2026-11-01,m,1.5\n", "line 2: requests: expected a whole number such as 1200, not '1.5'"),
        ("day,model,requests\n2026-11-01,m,-1\n", "line 2: requests: expected a whole number"),
        (f"day,model,requests\n2026-11-01,m,{'9' * 5000}\n", "line 2: requests: expected a whole number"),
        ("start_time,amount_value,amount_currency\n1793491200,1,eur\n", "line 2: its cost is in 'eur': only dollars"),
        ('day,model,cost\n2026-11-01,"m,1\n', "it is no CSV"),
        (f"day,model,cost\n2026-11-01,{'m' * 200_000},1\n", "line 2: it is no CSV: field larger"),
    ],
)
def test_what_cannot_be_read_is_told_with_its_line(url: str, tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "export.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        read_usage_file(path)
    (fault,) = caught.value.faults
    assert fault.startswith(said) or said in fault
    assert fault.isascii() and len(fault) < 800


def test_a_file_that_is_not_there_and_one_in_another_encoding_are_told_by_name(url: str, tmp_path: Path) -> None:
    done = command(tmp_path, "ledger", "reconcile", "none.csv", "--ledger", url)
    assert (done.code, done.out, done.err) == (2, "", "none.csv: it cannot be read: No such file or directory\n")
    (tmp_path / "export.csv").write_bytes("day,model,cost\n2026-11-01,\xe9,1\n".encode("utf-16"))
    done = command(tmp_path, "ledger", "reconcile", "export.csv", "--ledger", url)
    assert (done.code, done.err) == (2, "export.csv: it is not UTF-8: save it as CSV in UTF-8\n")
    for wrong in ("", "-1", "1e3", "101.5%%", "x"):
        with pytest.raises(ConfigError, match="expected dollars such as"):
            parse_tolerance(wrong)
    assert parse_tolerance("0.5%").share == Fraction(1, 200)


@pytest.mark.parametrize(
    ("model", "models", "expected"),
    [
        ("gpt-4o", ["gpt-4o", "gpt-4o-2024-08-06"], "gpt-4o"),
        ("gpt-4o", ["gpt-4o-2024-08-06", "gpt-4o-mini-2024-07-18"], "gpt-4o-2024-08-06"),
        ("gpt-4o", ["gpt-4o-2024-05-13", "gpt-4o-2024-08-06"], "gpt-4o"),
        ("gpt-4o-2024-08-06", ["gpt-4o"], "gpt-4o"),
        ("gpt-4o-mini", ["gpt-4o-2024-08-06"], "gpt-4o-mini"),
        ("claude-3-7-sonnet-20250219", ["Claude Sonnet 3.7", "Claude Sonnet 3.5"], "Claude Sonnet 3.7"),
        ("claude-haiku-4-5@20251001", ["Claude Haiku 4.5"], "Claude Haiku 4.5"),
        ("claude-opus-4-20250514", ["Claude Opus 4", "Claude Opus 4.1"], "Claude Opus 4"),
        ("", ["m"], ""),
        ("m", [""], "m"),
    ],
)
def test_a_model_is_found_under_the_name_that_the_file_gives_it(model: str, models: list[str], expected: str) -> None:
    assert name_in(model, models) == expected
