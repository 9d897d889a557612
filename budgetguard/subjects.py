"""Who spends: the labels of one call, merged from everywhere that may say them, and checked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from budgetguard.errors import InvalidLabel, LabelRequired
from budgetguard.labels import check_label, current_labels

if TYPE_CHECKING:
    from budgetguard.policy import Policy, SubjectKey

CHECKED_KEPT = 8192


def own_labels(labels: Mapping[str, str] | None, **usual: str | None) -> dict[str, str]:
    """The labels that a caller passed: the usual ones as parameters, others in `labels`."""
    own = dict(labels) if labels else {}
    own.update((name, value) for name, value in usual.items() if value is not None)
    return own


class Subjects:
    """Merges and checks labels for one policy. The call's own win over `acting_as`, and these over `base`."""

    def __init__(self, policy: Policy, from_env: Mapping[str, str]) -> None:
        self._rules = policy.labels
        self._lenient = policy.mode == "shadow"
        self._base = {**policy.labels.default, **from_env}
        self._checked: set[SubjectKey] = set()

    def of(self, own: Mapping[str, str]) -> tuple[Mapping[str, str], SubjectKey]:
        """The subject of a call, and its hashable key.

        Raises:
            InvalidLabel: a label is not 1 to 512 bytes of text, or not known.
            LabelRequired: the policy requires a label that is missing.
        """
        subject = {**self._base, **current_labels(), **own}
        try:
            key = tuple(sorted(subject.items()))
            if key in self._checked:
                return subject, key
            self._check(subject)
        except (InvalidLabel, TypeError) as error:
            if not self._lenient:
                raise error if isinstance(error, InvalidLabel) else self._type_fault(subject, error) from error
            subject = self._valid_part(subject)
            key = tuple(sorted(subject.items()))
        if len(self._checked) >= CHECKED_KEPT:
            self._checked.clear()
        self._checked.add(key)
        return subject, key

    def _check(self, subject: Mapping[str, str]) -> None:
        for name, value in subject.items():
            check_label(name, value)
        self._rules.check(subject)
        missing = [name for name in self._rules.required if name not in subject]
        if missing and not self._lenient:
            raise LabelRequired(
                f"this call lacks the required label {missing[0]!r}: pass {missing[0]}=... or wrap it in bg.acting_as()"
            )

    def _valid_part(self, subject: Mapping[str, str]) -> dict[str, str]:
        """In shadow mode nothing is refused: labels that cannot be used are left out."""
        valid: dict[str, str] = {}
        for name, value in subject.items():
            try:
                self._check({name: value})
            except InvalidLabel:
                continue
            valid[name] = value
        return valid

    def _type_fault(self, subject: Mapping[str, str], error: TypeError) -> InvalidLabel:
        """Labels of types that do not even sort or hash: name the first that is not text."""
        for name, value in subject.items():
            try:
                check_label(name, value)
            except InvalidLabel as fault:
                return fault
        return InvalidLabel(f"labels cannot be read: {error}")
