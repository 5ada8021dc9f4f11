"""Reflection under both of its names: the services, and the contract with its comments."""

from __future__ import annotations

from pathlib import Path

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from grpc_reflection.v1alpha import reflection_pb2

from tests.harness import started

PROTOS = Path(__file__).parents[2] / "protos" / "agent_service" / "v1"

MESSAGES = FileDescriptorProto.MESSAGE_TYPE_FIELD_NUMBER

pytestmark = pytest.mark.parametrize("package", ["grpc.reflection.v1", "grpc.reflection.v1alpha"])


async def answer_to(package: str, **asked: str) -> reflection_pb2.ServerReflectionResponse:
    async with started() as running, running.channel() as channel:
        method = channel.stream_stream(
            f"/{package}.ServerReflection/ServerReflectionInfo",
            reflection_pb2.ServerReflectionRequest.SerializeToString,
            reflection_pb2.ServerReflectionResponse.FromString,
        )
        call = method()
        await call.write(reflection_pb2.ServerReflectionRequest(**asked))
        answer: reflection_pb2.ServerReflectionResponse = await call.read()
        await call.done_writing()
        return answer


async def test_it_shows_the_services(package: str) -> None:
    answer = await answer_to(package, list_services="")
    names = {service.name for service in answer.list_services_response.service}
    assert {"agent_service.v1.AgentService", "grpc.health.v1.Health"} <= names


@pytest.mark.parametrize(
    ("by", "name"),
    [
        ("file_containing_symbol", "agent_service.v1.RunTaskRequest"),
        ("file_containing_symbol", "agent_service.v1.AgentService.RunTask"),
        ("file_by_filename", "agent_service/v1/agent_service.proto"),
    ],
)
async def test_it_sends_the_contract_with_comments_and_json_names(package: str, by: str, name: str) -> None:
    answer = await answer_to(package, **{by: name})
    sent = map(FileDescriptorProto.FromString, answer.file_descriptor_response.file_descriptor_proto)
    files = {Path(file.name).name: file for file in sent if file.package == "agent_service.v1"}

    assert sorted(files) == sorted(path.name for path in PROTOS.glob("*.proto"))
    for file in files.values():
        commented = {tuple(place.path) for place in file.source_code_info.location if place.leading_comments}
        assert commented >= {(MESSAGES, index) for index in range(len(file.message_type))}, file.name
    fields = {field.name: field for message in files["agent_service.proto"].message_type for field in message.field}
    assert fields["session_id"].json_name == "sessionId"


@pytest.mark.parametrize("by", ["file_containing_symbol", "file_by_filename"])
async def test_what_there_is_not_is_not_found(package: str, by: str) -> None:
    answer = await answer_to(package, **{by: "nothing"})
    assert answer.WhichOneof("message_response") == "error_response"
    assert answer.error_response.error_code == 5
