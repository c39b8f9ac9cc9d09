import pytest
from hypothesis import given
from hypothesis import strategies as st

from dreamsvc.evidence.naming import LEADS, LONGEST_RUN, SURE, WHOLE, bare_title, folded, names_in


def sure(text: str) -> set[str]:
    return {name for name, flags in names_in(text).items() if flags & SURE}


def test_words_with_a_capital_inside_a_sentence_are_names_and_runs_are_one() -> None:
    assert sure("We met Lester Smith in Kowloon. The ferry was late.") == {"lester smith", "kowloon"}


def test_the_first_word_of_a_sentence_is_not_surely_a_name() -> None:
    assert names_in("Thanks for that! Coffee was good.") == {"thanks": LEADS, "coffee": 0}
    assert names_in("Oslo is cold. I like Oslo.") == {"oslo": SURE | LEADS}


def test_what_a_text_begins_with_leads_it() -> None:
    found = names_in("The Demon Dice game was made by Tim Brown")
    assert found == {"demon dice": SURE | WHOLE | LEADS, "tim brown": SURE | WHOLE}
    assert names_in("“Ulysses” is by Joyce")["ulysses"] & LEADS


def test_capitals_within_a_word_make_a_name_wherever_it_stands() -> None:
    assert sure("GitHub and iPhone beat E42") == {"github", "iphone", "e42"}


def test_parts_of_a_longer_name_are_left_out() -> None:
    assert sure("he met Lester Smith, and Smith was kind") == {"lester smith"}


def test_function_words_months_and_days_are_no_names() -> None:
    assert names_in("it was on Monday, and in May, when I was there") == {}
    assert sure("he saw The Godfather on Friday") == {"godfather"}


def test_quoted_words_are_names_in_any_script() -> None:
    assert sure("我喜欢《红楼梦》。") == {"红楼梦"}
    assert sure('she called it "deep blue sea" twice') == {"deep blue sea"}


def test_names_in_other_scripts_with_capitals_are_found() -> None:
    assert sure("мы были в Москве с Анной Карениной") == {"москве", "анной карениной"}
    assert "openai" in sure("私はOpenAIを使う")


@pytest.mark.parametrize(
    ("left", "right"), [("Kowloon's", "kowloon"), ("Kowloon’s", "Kowloon"), ("U.S.", "US"), ("OSLO", "Oslo")]
)
def test_spellings_of_one_name_are_folded_into_one(left: str, right: str) -> None:
    assert folded(left) == folded(right)


def test_a_title_loses_the_brackets_at_its_end_only() -> None:
    assert bare_title("Mercury (planet)") == "Mercury"
    assert bare_title("Mercury") == "Mercury"
    assert bare_title("(planet)") == "(planet)"
    assert bare_title("The (almost) last") == "The (almost) last"


@given(st.text(max_size=200))
def test_names_are_folded_and_no_part_of_each_other(text: str) -> None:
    found = names_in(text)
    parts = {word for name in found if " " in name for word in name.split(" ")}
    assert not parts & found.keys()
    assert all(name.count(" ") < LONGEST_RUN for name in found)
