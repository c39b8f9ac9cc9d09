import pytest
from hypothesis import given
from hypothesis import strategies as st

from dreamsvc.tokens import LONGEST, count_tokens


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("", 0),
        (" \n\t", 0),
        ("She likes green tea.", 5),
        ("She doesn't like tea, does she?", 8),
        ("Sie mag grünen Tee.", 5),
        ("Sie trägt’s nicht", 3),
        ("3.5 km", 4),
        ("她喜欢绿茶。", 6),
        ("東京タワー", 5),
        ("iPhone手机", 3),
        ("हिन्दी में", 2),
        ("cafe\u0301 noir", 2),
        ("👍 ok", 2),
        ("❤\ufe0f ok", 2),
    ],
)
def test_words_and_marks_count_one_each_and_so_do_characters_of_scripts_without_spaces(text: str, tokens: int) -> None:
    assert count_tokens(text) == tokens


def test_a_blob_without_spaces_is_not_one_word() -> None:
    assert count_tokens("a" * (10 * LONGEST)) == 10
    assert count_tokens("ä" * (10 * LONGEST + 1)) == 11


@given(st.text(), st.text())
def test_texts_side_by_side_are_as_long_as_both(left: str, right: str) -> None:
    assert count_tokens(f"{left}\n{right}") == count_tokens(left) + count_tokens(right)


@given(st.text(alphabet=st.characters(max_codepoint=127)))
def test_ascii_counts_the_same_beside_another_script(text: str) -> None:
    assert count_tokens(f"{text} 茶") == count_tokens(text) + 1
