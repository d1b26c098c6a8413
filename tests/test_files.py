"""Files are there whole or not at all."""

import json

import pytest

from lttlib.files import whole, write_json


def test_a_failure_keeps_the_old_file_and_leaves_nothing_beside_it(tmp_path):
    path = tmp_path / "a" / "x.json"
    write_json(path, {"old": 1})
    with pytest.raises(ZeroDivisionError), whole(path) as temporary:
        temporary.write_text("half")
        assert json.loads(path.read_text()) == {"old": 1}, "until the end, the old file stands"
        raise ZeroDivisionError
    assert json.loads(path.read_text()) == {"old": 1} and list(path.parent.iterdir()) == [path]


def test_what_cannot_be_json_does_not_destroy_what_was_there(tmp_path):
    write_json(tmp_path / "x.json", ["É", 1.5])
    with pytest.raises(TypeError):
        write_json(tmp_path / "x.json", {"set": {1}})
    assert (tmp_path / "x.json").read_text(encoding="utf-8") == '[\n "É",\n 1.5\n]\n'
    assert len(list(tmp_path.iterdir())) == 1
