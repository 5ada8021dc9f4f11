"""What holds for each RPC, read from the contract."""

from __future__ import annotations

from dataclasses import replace

import pytest
from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorProto, MethodOptions
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.empty_pb2 import DESCRIPTOR as EMPTY

from agent_service.keys.base import Scope
from agent_service.server.methods import Method, read_methods
from agent_service.v1.method_options_pb2 import rules

READ = Method(scope=Scope.TASKS_READ, is_repeatable=True)
RUN = Method(scope=Scope.TASKS_RUN, starts_work=True)
PUBLIC = Method(is_public=True, is_repeatable=True)
OURS = {
    "RunTask": replace(RUN, stays_open=True),
    "StreamTask": replace(RUN, stays_open=True),
    "SubmitTask": RUN,
    "WatchTask": replace(READ, stays_open=True),
    "GetTask": READ,
    "ListTasks": READ,
    "CancelTask": Method(scope=Scope.TASKS_CANCEL, is_repeatable=True),
    "ResumeTask": Method(scope=Scope.TASKS_ANSWER, is_repeatable=True),
    "DeleteTask": Method(scope=Scope.TASKS_DELETE),
    "DeleteSession": Method(scope=Scope.TASKS_DELETE),
    "ToolInvoke": Method(scope=Scope.TOOLS_INVOKE, stays_open=True, starts_work=True),
    # Any valid key may ask what it may use.
    "ListAgents": Method(is_repeatable=True),
    "ListTools": Method(is_repeatable=True),
    "GetUsage": Method(scope=Scope.USAGE_READ, is_repeatable=True),
}
OTHERS = {
    "grpc.health.v1.Health/Check": PUBLIC,
    "grpc.health.v1.Health/List": PUBLIC,
    "grpc.health.v1.Health/Watch": replace(PUBLIC, stays_open=True),
    "grpc.reflection.v1.ServerReflection/ServerReflectionInfo": PUBLIC,
    "grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": PUBLIC,
}


def service_of(options: MethodOptions) -> ServiceDescriptor:
    """A service of ours with one method, in a pool of its own."""
    file = FileDescriptorProto(name="debug.proto", package="debug", syntax="proto3", dependency=[EMPTY.name])
    method = file.service.add(name="Debug").method.add(name="Look", options=options)
    method.input_type = method.output_type = ".google.protobuf.Empty"
    pool = DescriptorPool()
    pool.AddSerializedFile(EMPTY.serialized_pb)
    pool.Add(file)
    found: ServiceDescriptor = pool.FindServiceByName("debug.Debug")
    return found


def test_every_rpc_on_the_port_has_the_rules_that_the_contract_means() -> None:
    expected = {f"agent_service.v1.AgentService/{name}": method for name, method in OURS.items()} | OTHERS

    assert {method.path: method for method in read_methods()} == {
        f"/{path}": replace(method, path=f"/{path}") for path, method in expected.items()
    }


def test_a_method_of_ours_without_rules_is_an_error_at_start() -> None:
    with pytest.raises(ValueError, match=r"debug\.Debug\.Look has no option \(agent_service\.v1\.rules\)"):
        read_methods([service_of(MethodOptions())])


def test_empty_rules_say_that_any_valid_key_may_call() -> None:
    options = MethodOptions()
    options.Extensions[rules].SetInParent()

    assert list(read_methods([service_of(options)], {})) == [Method(path="/debug.Debug/Look")]


def test_a_scope_that_no_key_can_have_is_an_error_at_start() -> None:
    options = MethodOptions()
    options.Extensions[rules].scope = "tasks.rum"

    with pytest.raises(ValueError, match=r"debug\.Debug\.Look has the scope 'tasks\.rum', which no key can have"):
        read_methods([service_of(options)])


@pytest.mark.parametrize(
    ("path", "is_public"),
    [
        ("/grpc.health.v1.Health/Reset", True),
        ("/grpc.reflection.v1.ServerReflection/Other", True),
        ("/grpc.health.v1.Health", False),
        ("/agent_service.v1.AgentService/Shutdown", False),
        ("/grpc.channelz.v1.Channelz/GetServers", False),
        ("", False),
    ],
)
def test_an_unknown_method_is_public_only_in_a_public_service(path: str, is_public: bool) -> None:
    assert read_methods().is_public(path) is is_public
