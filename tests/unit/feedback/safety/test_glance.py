"""A rule that is passed over has nothing to find: the glance never hides a candidate."""

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feedback_svc.safety import credentials, personal
from feedback_svc.safety.rules import Glance, Rule

RULES = [rule for rule in credentials.RULES + personal.RULES if rule.needs or rule.min_digits]


def ids() -> Iterator[str]:
    return (f"{rule.kind}-{number}" for number, rule in enumerate(RULES))


@pytest.mark.parametrize("rule", RULES, ids=ids())
@given(data=st.data())
def test_whatever_a_pattern_matches_has_what_its_rule_needs(rule: Rule, data: st.DataObject):
    matched = data.draw(st.from_regex(rule.pattern))
    found = rule.pattern.search(matched)
    if found is not None:
        assert rule.may_hold(Glance(matched))


def test_digits_of_other_scripts_count():
    assert Glance("٠١٢ 345").num_digits == 6


def test_case_and_the_long_s_do_not_hide_a_word():
    assert Glance("ſECRET").holds_one_of(("secret",))
