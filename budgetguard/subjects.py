"""Who spends: the labels of one call, merged from everywhere that may say them, and checked."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from budgetguard.errors import InvalidLabel, LabelRequired
from budgetguard.labels import check_label, current_labels

if TYPE_CHECKING:
    from budgetguard.policy import Policy, SubjectKey

CHECKED_KEPT = 8192
NO_LABELS: Mapping[str, str] = MappingProxyType({})


def own_labels(labels: Mapping[str, str] | None, **usual: str | None) -> dict[str, str]:
    """The labels that a caller passed: the usual ones as parameters, others in `labels`. Not checked yet."""
    # What is no mapping is kept as a label, for the check to refuse it.
    own = dict(labels or {}) if labels is None or isinstance(labels, Mapping) else {"labels": labels}
    own.update({name: value for name, value in usual.items() if value is not None})
    return own


class Judged(NamedTuple):
    """Who spends: the labels, checked, their hashable key, and (in shadow mode only) the error of those left out."""

    subject: Mapping[str, str]
    key: SubjectKey
    excuse: str = ""


class Subjects:
    """Merges and checks labels for one policy: a call's own win over `acting_as`, these over those of its client."""

    def __init__(self, policy: Policy, from_env: Mapping[str, str]) -> None:
        self._rules = policy.labels
        self._lenient = policy.mode == "shadow"
        self._base = {**policy.labels.default, **from_env}
        self._checked: set[SubjectKey] = set()

    def merged(self, own: Mapping[str, str], of_client: Mapping[str, str]) -> dict[str, str]:
        """All that is said of a call, but for what is no label, or none that is known."""
        return self._valid({**self._base, **of_client, **current_labels(), **own})

    def judge(self, own: Mapping[str, str], of_client: Mapping[str, str] = NO_LABELS) -> Judged:
        """The subject of a call; in shadow mode with the error that it would have raised.

        Args:
            of_client: the labels that its client was wrapped with.

        Raises:
            InvalidLabel: a label is not 1 to 512 bytes of text, or not known.
            LabelRequired: the policy requires a label that is missing.
        """
        subject = {**self._base, **of_client, **current_labels(), **own}
        try:
            key = tuple(sorted(subject.items()))
            if key in self._checked:
                return Judged(subject, key)
        except TypeError:  # names or values that do not sort or hash: the check names the first that is no text
            key = ()
        try:
            self._check(subject)
        except (InvalidLabel, LabelRequired) as error:
            if not self._lenient:
                raise
            subject = self._valid(subject)
            return Judged(subject, tuple(sorted(subject.items())), type(error).__name__)
        if len(self._checked) >= CHECKED_KEPT:
            self._checked.clear()
        self._checked.add(key)
        return Judged(subject, key)

    def _check(self, subject: Mapping[str, str]) -> None:
        for name, value in subject.items():
            check_label(name, value)
        self._rules.check(subject)
        missing = [name for name in self._rules.required if name not in subject]
        if missing:
            raise LabelRequired(
                f"this call lacks the required label {missing[0]!r}: pass {missing[0]}=... or wrap it in bg.acting_as()"
            )

    def _valid(self, labels: Mapping[str, str]) -> dict[str, str]:
        return {name: value for name, value in labels.items() if self._is_valid(name, value)}

    def _is_valid(self, name: str, value: str) -> bool:
        try:
            check_label(name, value)
            self._rules.check({name: value})
        except InvalidLabel:
            return False
        return True
