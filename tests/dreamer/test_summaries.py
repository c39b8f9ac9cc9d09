import pytest
from hypothesis import given
from hypothesis import strategies as st

from dreamsvc.dreamer.summaries import SENTENCES, TEXT_LENGTH, TITLE_LENGTH, Source, shortened, text_of, title_of

PLANS = [
    Source("", "Anna flies to Oslo on Monday. Her flight leaves at noon.", 0.8),
    Source("", "The flight to Oslo was booked by Anna. She paid by card.", 0.9),
    Source("", "Anna meets Ben in Oslo. They want to see the harbour.", 0.7),
]


def test_the_title_is_that_of_the_most_central_member():
    assert title_of([Source("Oslo", "A trip.", 0.5), Source("Bergen", "A trip.", 0.9)]) == "Bergen"


def test_without_a_title_the_first_sentence_is_the_title():
    assert title_of(PLANS) == "The flight to Oslo was booked by Anna."


def test_a_central_member_without_a_word_leaves_the_title_to_the_next():
    assert title_of([Source(" ", "...", 0.9), Source("Oslo", "", 0.5)]) == "Oslo"
    assert title_of([Source("", "", 0.9)]) == ""


def test_a_long_title_is_cut_between_two_words():
    title = title_of([Source("", "harbour " * 40, 1.0)])
    assert len(title) <= TITLE_LENGTH
    assert title.endswith(" harbour…")


def test_the_text_says_what_the_members_share_in_their_order():
    assert text_of(PLANS) == (
        "Anna flies to Oslo on Monday. The flight to Oslo was booked by Anna. Anna meets Ben in Oslo."
    )


def test_what_was_said_is_not_said_again():
    twice = [
        Source("", "Anna flies to Oslo.", 0.9),
        Source("", "Anna flies to Oslo!", 0.8),
        Source("", "Ben stays.", 0.5),
    ]
    assert text_of(twice) == "Anna flies to Oslo. Ben stays."


def test_a_single_member_gives_its_own_sentences():
    assert text_of([Source("Trip", "Anna flies. Ben stays home. Cleo drives. Dan walks.", 1.0)]).count(".") == SENTENCES


def test_members_without_a_text_are_told_by_their_titles():
    assert text_of([Source("Oslo", "", 0.5), Source("Bergen", "", 0.9), Source("Oslo", " ", 0.4)]) == "Bergen; Oslo"


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("J. Smith paid 3.50 euros. It was enough.", "J. Smith paid 3.50 euros."),
        ("Is it so? Yes, it is.", "Is it so?"),
        ("他住在北京。她住在上海。", "他住在北京。"),
        ("a list of\nlines without stops", "a list of"),
        ("“Come!” He came.", "“Come!"),
    ],
)
def test_sentences_end_where_they_end(text, first):
    assert title_of([Source("", text, 1.0)]) == first


def test_texts_in_scripts_without_spaces_are_compared_by_their_characters():
    same = [Source("", "他住在北京。", 0.9), Source("", "她也住在北京。", 0.8), Source("", "天气很好。", 0.7)]
    assert text_of(same) == "他住在北京。 天气很好。"


@given(
    st.lists(st.builds(Source, st.text(max_size=200), st.text(max_size=1500), st.floats(-1, 1, width=32)), max_size=12)
)
def test_any_texts_give_an_extract_of_bounded_length(sources):
    text, title = text_of(sources), title_of(sources)
    assert len(text) <= TEXT_LENGTH
    assert len(title) <= TITLE_LENGTH
    assert (text, title) == (text_of(sources), title_of(sources))
    if any(char.isalnum() for source in sources for char in source.title):
        assert title


@given(st.text(min_size=1), st.integers(2, 50))
def test_a_text_is_shortened_to_its_beginning(text, length):
    short = shortened(text, length)
    assert len(short) <= length
    assert short == text or text.startswith(short[:-1])
