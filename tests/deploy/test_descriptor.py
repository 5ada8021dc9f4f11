"""`make descriptor`: a contract that tools can read without the rest of the checkout."""

from __future__ import annotations

from pathlib import Path

from google.protobuf.descriptor_pb2 import FileDescriptorSet

from tests.deploy.rendered import run


def test_it_holds_all_that_is_imported_the_details_of_errors_and_the_comments(tmp_path: Path) -> None:
    written = run("sh", "scripts/descriptor", str(tmp_path / "new" / "contract.binpb"))
    assert written.returncode == 0, written.stderr

    files = {
        file.name: file
        for file in FileDescriptorSet.FromString((tmp_path / "new" / "contract.binpb").read_bytes()).file
    }

    assert {needed for file in files.values() for needed in file.dependency} <= files.keys()
    assert "google/rpc/error_details.proto" in files
    comments = [at.leading_comments for at in files["agent_service/v1/agent_service.proto"].source_code_info.location]
    assert any("Submits a task and waits" in comment for comment in comments)
