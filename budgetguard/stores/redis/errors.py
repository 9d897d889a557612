"""A server's error replies, what is done about each (FAILURES 2.1), and what the user is told at the end."""

from __future__ import annotations

import re
from enum import Enum

from budgetguard.stores.redis.address import Address
from budgetguard.stores.scripts import command_at

SHOWN = 200
NO_ANSWER = "no answer in time"


class Remedy(Enum):
    """What the client does about an error reply. Only of the first kind may anything have been applied."""

    RETURN = "it is the command's answer"
    RETRY = "ask again: it heals by waiting, or by finding the primary"
    OPERATOR = "ask again: somebody may mend it; at the deadline say what to mend"
    STOP = "say at once what to mend"


_REMEDIES = {
    **dict.fromkeys(("READONLY", "LOADING", "NOREPLICAS", "MISCONF", "BUSY", "MASTERDOWN"), Remedy.RETRY),
    **dict.fromkeys(("CLUSTERDOWN", "MOVED", "ASK", "TRYAGAIN", "MAXCLIENTS"), Remedy.RETRY),
    **dict.fromkeys(("NOAUTH", "WRONGPASS", "NOPERM", "OOM", "DENIED"), Remedy.OPERATOR),
    "CROSSSLOT": Remedy.STOP,
}
_NOT_HERE = {"READONLY", "LOADING", "MASTERDOWN", "CLUSTERDOWN", "MOVED", "NOAUTH", "WRONGPASS", "DENIED", "MAXCLIENTS"}
# Lines that begin with ERR and have no code of their own.
_CODE_OF_ERR = {
    "max number of clients": "MAXCLIENTS",
    "invalid password": "WRONGPASS",
    "Client sent AUTH": "WRONGPASS",
    "AUTH <password> called": "WRONGPASS",
    "The user executing the script": "NOPERM",
    "This instance has cluster support disabled": "NOCLUSTER",
    "DB index": "NODB",
    "invalid DB index": "NODB",
}
# Redis before 7.0 says inside an ERR line what stopped a script: "ERR Error running script (call to f_<sha>):
# @user_script:1: @user_script: 1: -READONLY You can't write against a read only replica."
_STOPPED_SCRIPT = re.compile(r"@user_script:\s*\d+:\s*-?([A-Z]+) ")
_LINE_OF_SCRIPT = re.compile(r"(?:script: |f_)([0-9a-f]{40}).*?@user_script:\s*(\d+)")


class ReplyError(Exception):
    """An error reply: `text` is its line; `code` the word that says what it is, of a script's what stopped it."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text
        self.code = _code(text)

    @property
    def remedy(self) -> Remedy:
        return _REMEDIES.get(self.code, Remedy.RETURN)

    @property
    def is_about_the_place(self) -> bool:
        """Whether the next try needs another connection: to the primary, or one that is served and logged in."""
        return self.code in _NOT_HERE


class Trouble(Exception):
    """Why a try failed, in words for the user that hold no secret."""

    def __init__(self, text: str, remedy: Remedy = Remedy.RETRY) -> None:
        super().__init__(text)
        self.remedy = remedy


class WireLost(Exception):
    """A connection could not be made, or was lost; what was sent over it may have been applied."""


def _code(text: str) -> str:
    code, _, rest = text.partition(" ")
    if code != "ERR":
        return code
    if stopped := _STOPPED_SCRIPT.findall(rest):
        return str(stopped[-1])
    return next((code for words, code in _CODE_OF_ERR.items() if rest.startswith(words)), "ERR")


def lacking(what: str) -> str:
    """What to tell whoever may not do this."""
    return f"it refuses a command or a key: give its user what the ACL in budgetguard's README lists ({what})"


def unreadable(key: str) -> str:
    """What to do about a key that holds something of somebody else's."""
    return f"the key {key} cannot be read: somebody else has written it; delete it or restore it"


def _refused_in_script(text: str) -> str:
    """Redis says only on which line of which script it has refused a command."""
    found = _LINE_OF_SCRIPT.search(text)
    command = command_at(found[1], int(found[2])) if found else ""
    return command and f"{command}, which a script runs"


def trouble_of(reply: ReplyError, address: Address, *, in_greeting: bool = False, of_sentinel: bool = False) -> Trouble:
    """What to tell the user about an error reply that is no answer. In a greeting none is."""
    said = reply.text[:SHOWN]
    user = "sentinel_username and sentinel_password" if of_sentinel else "user:password@"
    texts = {
        "NOAUTH": f"it asks for a password: give {user} in the store's URL",
        "WRONGPASS": f"it does not accept {user} of the store's URL",
        "NOPERM": lacking(_refused_in_script(reply.text) or said),
        "OOM": "its memory is full: raise maxmemory",
        "DENIED": "it is in protected mode: give it a password, or let it bind to this address only",
        "CROSSSLOT": f"the keys of one command lie in several slots, which is a bug of budgetguard: report it ({said})",
        "NOCLUSTER": "it is not part of a cluster: the store's URL must begin with redis:// or rediss://",
        "NODB": f"it has no database {address.db}: say another in the store's URL",
    }
    if reply.code == "MOVED" and address.kind != "cluster":
        return Trouble("it is part of a cluster: the store's URL must begin with redis+cluster://", Remedy.OPERATOR)
    if of_sentinel and reply.code == "ERR":
        return Trouble(f"it is no sentinel ({said})", Remedy.OPERATOR)
    is_unknown = in_greeting and reply.remedy is Remedy.RETURN
    return Trouble(texts.get(reply.code, said), Remedy.OPERATOR if is_unknown else reply.remedy)
