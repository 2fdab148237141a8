"""Which files hold events, and what is no event."""

import json
from pathlib import Path

import pytest

from quittance.cli import event_files

EVENT = {"id": "evt_1", "object": "event", "type": "charge.succeeded", "data": {"object": {"id": "ch_1"}}}


def write(path: Path, content: object) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content, indent=1).encode())
    return path


def test_a_file_of_one_event_keeps_its_bytes(tmp_path: Path) -> None:
    path = write(tmp_path / "one.json", EVENT)
    events, others = event_files.read([path])
    assert [(event.name, event.id, event.type) for event in events] == [(str(path), "evt_1", "charge.succeeded")]
    assert events[0].body == path.read_bytes()
    assert others == []


def test_an_array_and_lines_are_taken_apart_byte_for_byte(tmp_path: Path) -> None:
    first, second = b'{ "id":"evt_1", "type":"a", "object":"event" }', b'{"id":"evt_2","type":"b","data":{}}'
    array = write(tmp_path / "array.json", b"[" + first + b",\n" + second + b"]")
    lines = write(tmp_path / "lines.ndjson", first + b"\n\n" + second + b"\n")
    events, others = event_files.read([array, lines])
    assert [event.body for event in events] == [first, second, first, second]
    assert [event.name for event in events[:2]] == [f"{array}#1", f"{array}#2"]
    assert others == []


def test_a_folder_gives_its_event_files_and_not_those_of_folders_within(tmp_path: Path) -> None:
    write(tmp_path / "b.json", EVENT | {"id": "evt_b"})
    write(tmp_path / "a.jsonl", json.dumps(EVENT | {"id": "evt_a"}).encode())
    write(tmp_path / "notes.txt", b"no event")
    (tmp_path / "within").mkdir()
    write(tmp_path / "within" / "c.json", EVENT)
    events, others = event_files.read([tmp_path])
    assert [event.id for event in events] == ["evt_a", "evt_b"]
    assert others == []


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "is empty"),
        (b"  \n ", "is empty"),
        (b"{", "is no JSON object"),
        (b"\xff\xfe", "is no JSON object"),
        (b"[" * 100_000, "is no JSON object"),
        (b'"text"', "is no JSON object"),
        ({"id": "ch_1", "object": "charge", "type": "card"}, "it is a 'charge'"),
        ({"object": "event", "type": "a"}, "it has no id"),
        ({"object": "event", "id": "evt_1", "type": 3}, "it has no type"),
        ({"object": {"id": "ch_1"}}, "it has no id"),
    ],
)
def test_what_is_no_event_is_named_with_the_reason(tmp_path: Path, content: object, why: str) -> None:
    path = write(tmp_path / "odd.json", content)
    events, others = event_files.read([path])
    assert events == []
    assert [(other.name, other.named) for other in others] == [(str(path), True)]
    assert why in others[0].why


def test_a_thin_event_of_the_second_api_is_an_event(tmp_path: Path) -> None:
    thin = {"id": "evt_test_65", "object": "v2.core.event", "type": "v1.billing.meter.error", "related_object": None}
    events, _ = event_files.read([write(tmp_path / "thin.json", thin)])
    assert [event.id for event in events] == ["evt_test_65"]


def test_a_fresh_id_changes_nothing_but_the_id(tmp_path: Path) -> None:
    [event], _ = event_files.read([write(tmp_path / "one.json", EVENT)])
    one, other = event_files.with_fresh_id(event), event_files.with_fresh_id(event)
    assert len({event.id, one.id, other.id}) == 3
    assert json.loads(one.body) == EVENT | {"id": one.id}


def test_every_recorded_payload_is_found_to_be_an_event(payloads: Path) -> None:
    events, others = event_files.read([payloads])
    assert len(events) == len(list(payloads.glob("*.json")))
    assert others == []
