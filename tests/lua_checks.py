"""What must be so in the Lua files: headers that say what bodies do, and what the client sends and reads.

Each check returns the faults that it finds; `test_lua_headers` runs them, and plants faults for them.
"""

from __future__ import annotations

import re
from typing import Any, get_args

from lua_text import (
    SHARED,
    VERBS,
    Files,
    calls_in,
    code,
    composed,
    functions,
    header,
    included,
    lengths_said,
    listed,
    may_refuse,
    names_of,
    operation_of,
    parted,
    tables_returned,
    uncommented,
    words_in,
    words_of,
)
from store_kit import MINUTE_MS, NOON_MS, amounts, info, plan, usage

from budgetguard.core import balances, machine
from budgetguard.core.amounts import MAX_AMOUNT, UNITS
from budgetguard.core.model import Account, Plan
from budgetguard.core.verbs import Expire, Extend, Grow, Release, Reserve, Settle, SettlementWord, VerdictWord
from budgetguard.store import OUTPUT_PLACES, Cause
from budgetguard.stores import scripts
from budgetguard.stores.redis import batches, calls
from budgetguard.stores.redis.calls import Call, Caller
from budgetguard.stores.redis.keys import Keys, digest_of
from budgetguard.stores.redis.operations import Announce, info_of, operation
from budgetguard.stores.redis.plans import KINDS, kind_of, pack, term_of, unpack

CALLER = Caller(Keys("n"), b"i", NOON_MS, 0)
CALLS: dict[str, Call] = {
    "batch": calls.batch(caller=CALLER, touched=[b"x"], outbox_most=1, outbox_bounded=True, plans=[], operations=[]),
    "open": calls.open_namespace(caller=CALLER, begin_with=b"i", accept_loss=False),
    "due": calls.due(caller=CALLER, most=1),
    "clock": calls.clock(caller=CALLER),
    "tell": calls.tell(caller=CALLER, causes=[Cause("x", 1, "i")]),
    "note": calls.note(caller=CALLER, outbox_most=1, entry=b"x"),
    "learn": calls.learn(caller=CALLER, flush_id="f", slice_ms=1, most=1, sets=[[b"x", "w", 1, 1]], forgotten=[b"y"]),
    "claim": calls.claim(caller=CALLER),
    "rebuild": calls.rebuild(caller=CALLER, accounts=[[b"x"]], reservations=[], goes_on_as=False),
    "look": calls.look(caller=CALLER, commands=[["x"]]),
    "prune": calls.prune(caller=CALLER, digests=[b"x"], found_dead_ms=[0]),
}
PLAN = plan("5000 tokens/hour")
INFO = info(amounts(1, 2, 3), team="t")
OPERATIONS: dict[str, Any] = {
    "reserve": Reserve("an id", PLAN, amounts(4, 5, 6), INFO, 7, 8, 9),
    "settle": Settle(
        "an id", PLAN, amounts(4, 5, 6), usage(amounts(7, 8, 9)), INFO, "error", amounts(10, 11, 12), 13, 14, 15, 16,
        "a fault", "a table",
    ),
    "release": Release("an id", 4),
    "grow": Grow("an id", PLAN, amounts(4, 5, 6), usage(amounts(7, 8, 9))),
    "extend": Extend("an id", 4),
    "expire": Expire("an id"),
    "announce": Announce((plan("5000 tokens/rolling 1 minute").claims[0].account, 4)),
}  # fmt: skip
ORDER = ("calendar", "rolling", "total", "concurrent")
BECOME_ERRORS = {"no_memory", "outbox_full"}
VERDICTS, SETTLEMENTS = frozenset({*get_args(VerdictWord), *BECOME_ERRORS}), frozenset(get_args(SettlementWord))
WORDS_KNOWN = {
    "reserve": VERDICTS, "grow": VERDICTS, "extend": VERDICTS, "settle": SETTLEMENTS, "release": SETTLEMENTS,
    "expire": SETTLEMENTS, "announce": frozenset({"yes", "no"}),
}  # fmt: skip
ANSWERS = frozenset().union(*WORDS_KNOWN.values())


def faults_of_headers(files: Files) -> list[str]:
    """Every file begins by saying what it is; scripts and verbs have every section that DESIGN 9 asks for."""
    asked = {name: {"purpose", "keys", "argv", "returns", "never"} for name in scripts.NAMES}
    asked |= {name: {"purpose", "operation", "returns", "never"} for name in VERBS}
    return [
        f"{part}: the header has no {section}"
        for part, text in files.items()
        for section in sorted(asked.get(part, {"purpose"}))
        if not header(text).get(section)
    ]


def faults_of_keys(files: Files, name: str) -> list[str]:
    """The header of a script names the keys that its body takes, by number, and that the client sends, by name."""
    said = header(files[name]).get("keys", "")
    numbers = {int(number): word for number, word in re.findall(r"KEYS\[(\d+)\] (\w+)", said)}
    body = code(composed(files, name, manual=True))
    taken = {int(number) for number in re.findall(r"\bKEYS\[(\d+)\]", body)}
    further = re.search(r"#KEYS|\(KEYS,|\bKEYS\[[^\d\]]", body) is not None
    sent = [key.decode().removeprefix(CALLER.keys.prefix) for key in CALLS[name].keys]
    faults = [] if set(numbers) == taken else [f"{name}: KEYS {sorted(numbers)}, but the body takes {sorted(taken)}"]
    if ("then" in said) != further or further != (len(sent) > len(numbers)):
        faults.append(f"{name}: further keys are said, taken or sent, and not all three")
    named = [numbers[number] for number in sorted(numbers)]
    return faults + ([] if sent[: len(named)] == named else [f"{name}: {named} are said, and {sent} are sent"])


def faults_of_arguments(files: Files, name: str) -> list[str]:
    """The header tells every field of a script's argument: as many as the client packs, and the body reads."""
    said = header(files[name]).get("argv", "")
    texts = {variant: code(composed(files, name, variant)) for variant in (False, True)}
    numbers = {number for text in texts.values() for number in re.findall(r"\bARGV\[(\d+)\]", text)}
    read = {int(number) for text in texts.values() for number in re.findall(r"\basked\[(\d+)\]", text)}
    fields = listed(re.search(r"\{[^}]*\}", said)[0]) if "{" in said else []  # type: ignore[index]
    faults = [] if numbers == set(re.findall(r"ARGV\[(\d+)\]", said)) else [f"{name}: the body takes ARGV {numbers}"]
    if read != set(range(1, len(fields) + 1)):
        faults.append(f"{name}: ARGV[1] has the fields {fields}, but the body reads {sorted(read)}")
    count = len(unpack(CALLS[name].argument))
    return faults + ([] if count == len(fields) else [f"{name}: {len(fields)} fields are said, {count} are sent"])


def faults_of_replies(files: Files, name: str) -> list[str]:
    """The header of a script tells the shape of its reply, and whether `meta_refusal` may take its place."""
    said = header(files[name]).get("returns", "")
    body = code(files[name])
    shapes = {len(listed(shape)) for shape in re.findall(r"\{ 'ok'[^}]*\}", body)}
    told = {len(listed(shape)) for shape in re.findall(r"\{'ok'[^}]*\}", said)}
    faults = [] if shapes == told else [f"{name}: replies have {shapes} fields, said are {told}"]
    return faults + ([] if ("meta_refusal" in said) == ("meta_refusal" in body) else [f"{name}: meta_refusal"])


def faults_of_operations(files: Files, verb: str) -> list[str]:
    """A verb's header lists what its body reads, in the order in which the client sends it."""
    names, text = operation_of(files[verb]), files[verb]
    read = {int(number) for number in re.findall(r"\bop\[(\d+)\]", code(text))}
    faults = []
    if read != set(range(2, len(names) + 1)):
        faults.append(f"{verb}: the operation is {names}, but the body reads {sorted(read)}")
    sent = operation(OPERATIONS[verb], lambda _: 17, whole=True)
    told = tuple(named(OPERATIONS[verb], name) for name in names)
    return faults + ([] if sent == told else [f"{verb}: the operation is {names}, but {sent} is sent"])


def named(op: Any, name: str) -> Any:
    """What is to be sent of an operation where a header says `name`."""
    if isinstance(op, Announce):
        account: Account = op[0]
        digest, kind, term_ms = digest_of(account.key), kind_of(account), term_of(account)
        return {"digest": digest, "kind": kind, "term_ms": term_ms, "level": op[1]}.get(name, "announce")
    found = type(op).__name__.lower() if name == "verb" else getattr(op, name, None)
    if name == "usage":
        return pack(op.info.usage if isinstance(op, Reserve) else op.usage)
    return 17 if isinstance(found, Plan) else info_of(found) if name == "info" else found


def faults_of_words(files: Files, verb: str) -> list[str]:
    """A verb's header names the words that its body can answer, and no other; the client knows them all."""
    said, body = words_of(files[verb]), code(files[verb])
    found = words_in(body) & ANSWERS
    faults = [] if said == found else [f"{verb}: said are {sorted(said - found)}, answered {sorted(found - said)}"]
    strange = said - WORDS_KNOWN[verb]
    faults += [f"{verb}: nobody knows {sorted(strange)}"] if strange else []
    lengths = {len(fields) for fields in tables_returned(body) if not re.match(r"\w+ = ", fields[0])}
    return faults + ([] if lengths == lengths_said(files[verb]) else [f"{verb}: answers have {lengths} fields"])


def faults_of_endings(files: Files) -> list[str]:
    """The header of `batch` tells how an operation ends that cannot be done."""
    body = code(composed(files, "batch"))
    found = {*re.findall(r"\brefuse\('(\w+)'", body), *re.findall(r"answer or \{ '(\w+)', tostring", body)}
    told = set(re.findall(r"'(\w+)'", "".join(re.findall(r"\{('[^}]*), what\}", header(files["batch"])["returns"]))))
    return [] if found == told else [f"batch: an operation ends as {found}, said is {told}"]


def faults_of_marks(files: Files) -> list[str]:
    """Nothing is changed above the line that says so, and below it nothing is called that may refuse."""
    faults, may_fail = [], may_refuse(files)
    for verb in VERBS:
        changing = {name: body for name, body in functions(files[verb]).items() if "change_" in code(body)}
        if not changing:
            faults.append(f"{verb}: changes nothing")
        for name, body in changing.items():
            above, below = parted(body)
            if "change_" in code(above):
                faults.append(f"{verb}: {name} changes something above the line")
            if late := calls_in(below) & may_fail:
                faults.append(f"{verb}: {name} calls {sorted(late)} below the line")
    return faults


def faults_of_includes(files: Files) -> list[str]:
    """Includes exist, once in a script, and every script needs something of each; no file is left out of all."""
    parts = {(name, manual): included(files, name, manual) for name in scripts.NAMES for manual in (False, True)}
    everywhere = {part for found in parts.values() for part in found}
    faults = [f"{part} is in no script" for part in files.keys() - everywhere]
    faults += [f"{part} does not exist" for part in everywhere - files.keys()]
    for (name, _), found in parts.items():
        faults += [f"{name} includes {part} twice" for part in set(found) if found.count(part) > 1]
        for part in set(found[1:]) & files.keys():
            others = " ".join(code(files[other]) for other in found if other != part and other in files)
            if not any(re.search(rf"\b{word}\b", others) for word in names_of(files[part])):
                faults.append(f"{name} includes {part} for nothing")
    return faults


def faults_of_names(files: Files) -> list[str]:
    """The parts of a script share few names: of the 129th Lua makes their table anew, in every call, for some 10 us."""
    names = set(re.findall(rf"{re.escape(SHARED)}(\w+)", uncommented(composed(files, "batch", manual=True))))
    return [f"batch: {len(names)} names are shared"] if len(names) > 128 else []


def faults_of_clocks(files: Files) -> list[str]:
    """Only one file reads the server's clock."""
    return [part for part, text in files.items() if re.search(r"\bTIME\b", code(text)) and part != "lib/now"]


def numbers_of(files: Files) -> dict[str, int]:
    """The numbers that files give names at their top, where they say them in figures or of days."""
    found: dict[str, int] = {"DAY_MS": balances.DAY_MS}
    for text in files.values():
        for name, value in re.findall(r"^(?:local )?(\w+) = ([^-\n]+)", code(text), re.MULTILINE):
            if re.fullmatch(r"[0-9]+|[0-9]+ \* DAY_MS|[0-9]+ \* HOUR_MS", value.strip()):
                found[name] = int(eval(value, {}, found))  # noqa: S307 - figures of the project's own files
    return found


def faults_of_numbers(files: Files) -> list[str]:
    """What both languages say is the same number."""
    both = {
        "SCHEMA": calls.SCHEMA, "MOST": MAX_AMOUNT, "CONCURRENT": UNITS.index("concurrent") + 1, "DAY_MS": 86_400_000,
        "TOTAL_KEEP_MS": balances.TOTAL_KEEP_MS, "HELD_RETRY_MS": balances.HELD_RETRY_MS, "BEHIND_MS": MINUTE_MS,
        "HELD_KEEP_MS": machine.HELD_KEEP_MS, "EXPIRED_KEEP_MS": machine.EXPIRED_KEEP_MS,
        "FORGOTTEN_REVISIONS": machine.FORGOTTEN_REVISIONS, "SLOTS": 60, "PLACES": OUTPUT_PLACES,
    }  # fmt: skip
    found = numbers_of(files)
    faults = [
        f"{name} is {found.get(name)}, and {number}" for name, number in both.items() if found.get(name) != number
    ]
    kinds = re.search(r"^(?:local )?CALENDAR, ROLLING, TOTAL, HELD = (.*)", code(files["lib/claims"]), re.MULTILINE)
    if not kinds or kinds[1] != ", ".join(str(KINDS.index(kind) + 1) for kind in ORDER):
        faults.append(f"the kinds of periods are not {KINDS}")
    return faults


def faults_of_records(files: Files) -> list[str]:
    """A reservation is written in the order in which it is read, and its plan is where the client looks for it."""
    read = re.search(r"local ([\w,\s]+) = cmsgpack\.unpack\(value\)", code(files["lib/holds"]))
    names = [name.strip() for name in read[1].split(",")] if read else []
    packed = re.findall(r"cmsgpack\.pack\(([^)]*)\)", code(files["lib/write_hold"]))
    lengths = {len(fields.split(",")) for fields in packed}
    faults = [] if lengths == {len(names)} else [f"a reservation is read as {names}, written with {lengths} fields"]
    return faults if names[batches.PLAN : batches.PLAN + 1] == ["plan"] else [*faults, f"no plan at {batches.PLAN}"]
