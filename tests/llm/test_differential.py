"""What our assemblers read out of a stream is what OpenAI's own package reads, or stands in a table of differences."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings

from tests.fakes.provider import event, usage
from tests.llm.accumulation import Package, read_chat_by_us
from tests.llm.streams import CUTS, chat_stream

MANY = settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)


@pytest.fixture(scope="module")
def package() -> Package:
    return Package()


@MANY
@given(chat_stream(), CUTS)
def test_a_chat_completion_reads_as_openais_package_reads_it(package: Package, body: bytes, cuts: list[int]) -> None:
    assert read_chat_by_us(body, cuts) == package.read_chat(body)


def chat_body(*chunks: dict[str, object]) -> bytes:
    return b"".join(event(one) for one in (*chunks, usage())) + b"data: [DONE]\n\n"
