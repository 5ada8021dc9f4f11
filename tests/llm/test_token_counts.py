"""How many tokens a text is taken to be, by families of models."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_service.llm.token_counts import ANY, CL100K, O200K, Estimate, estimate_for

# As the tokenizers of the families count them: o200k, cl100k, and the larger of Llama 3 and Qwen 3.
COUNTED = [
    ("What is 17.5% of 2340?", 12, 12, 15),
    ("The quick brown fox jumps over the lazy dog, and nobody has ever seen it do so twice.", 20, 20, 20),
    ("def price(amount: float, rate: float = 0.19) -> float:\n    return round(amount * (1 + rate), 2)\n", 31, 31, 32),
    ('{"id":48213,"name":"Item 7","price":79.99,"tags":["new","sale"],"created":"2024-05-17T12:03:55Z"}', 41, 40, 52),
    ("412.871,903.114,77.302,650.999,18.240\n903.001,55.813,714.620,301.777,999.102\n", 40, 40, 77),
    ("| name | takes | default |\n|---|---|---|\n| `turns` | integer, 1 to 1,000 | `10` |\n", 34, 34, 37),
    ("Alle Menschen sind frei und gleich an Würde und Rechten geboren.", 14, 16, 16),
    ("Wszyscy ludzie rodzą się wolni i równi pod względem swej godności i swych praw.", 26, 28, 28),
    ("Все люди рождаются свободными и равными в своем достоинстве и правах.", 17, 35, 22),  # noqa: RUF001 - it is Russian
    ("يولد جميع الناس أحرارا متساوين في الكرامة والحقوق.", 17, 35, 19),
    ("सभी मनुष्यों को गौरव और अधिकारों के मामले में जन्मजात स्वतन्त्रता और समानता प्राप्त है।", 25, 84, 78),
    ("人人生而自由在尊严和权利上一律平等。他们赋有理性和良心并应以兄弟关系的精神相对待。", 35, 50, 36),
    ("すべての人間は、生れながらにして自由であり、かつ、尊厳と権利とについて平等である。", 34, 44, 27),
    ("모든 인간은 태어날 때부터 자유로우며 그 존엄과 권리에 있어 동등하다.", 24, 41, 25),
]


@pytest.mark.parametrize(("text", "o200k", "cl100k", "most"), COUNTED)
def test_the_estimate_is_not_below_what_tokenizers_count(text: str, o200k: int, cl100k: int, most: int) -> None:
    assert o200k <= O200K.tokens(text) <= 4 * o200k
    assert cl100k <= CL100K.tokens(text) <= 4 * cl100k
    assert most <= ANY.tokens(text) <= 4 * most


@pytest.mark.parametrize(
    ("model_id", "estimate"),
    [
        ("gpt-4o", O200K),
        ("gpt-4o-mini-2024-07-18", O200K),
        ("openai/gpt-4.1-nano", O200K),
        ("gpt-5", O200K),
        ("o3-mini", O200K),
        ("o1", O200K),
        ("gpt-oss-120b", O200K),
        ("gpt-4", CL100K),
        ("gpt-4-turbo", CL100K),
        ("gpt-3.5-turbo", CL100K),
        ("meta-llama/Llama-3.1-8B-Instruct", CL100K),
        ("llama3.2", CL100K),
        ("llama2", ANY),
        ("Qwen/Qwen3-8B", ANY),
        ("mistral-large", ANY),
        ("omni", ANY),
        ("", ANY),
    ],
)
def test_a_model_is_known_by_its_name_and_any_other_counts_as_the_hungriest(model_id: str, estimate: Estimate) -> None:
    assert estimate_for(model_id) is estimate


@given(st.text(), st.text())
def test_a_longer_text_never_counts_less(text: str, more: str) -> None:
    for estimate in (O200K, CL100K, ANY):
        both = estimate.tokens(text + more)
        assert 0 <= estimate.tokens(text) <= both <= estimate.tokens(text) + estimate.tokens(more)
