import pytest

from nbutils.writing.jobfile import STATE, HostedError, JobFile, State


def test_what_is_kept_is_loaded(tmp_path):
    file = JobFile(tmp_path)
    assert file.load() is None
    state = State({"model": "base", "epochs": 3}, {"train.jsonl": "file-1"}, True, 7)
    file.keep(state)
    assert JobFile(tmp_path).load() == state
    with pytest.raises(HostedError, match=rf"{STATE} names no job; run finetune\(\) first"):
        file.begun()
    state.job = "ftjob-1"
    file.keep(state)
    assert file.begun() == state
    file.drop()
    assert file.load() is None


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"job": "ftjob-1"}', '{"a": 1}'])
def test_a_damaged_file_is_refused_and_stays(tmp_path, text):
    (tmp_path / STATE).write_text(text)
    with pytest.raises(HostedError, match=f"{STATE} is no whole record of a job; restore it, or"):
        JobFile(tmp_path).load()
    assert (tmp_path / STATE).read_text() == text


def test_one_at_a_time(tmp_path):
    folder = tmp_path / "new"
    with JobFile(folder).alone():
        other = JobFile(folder)
        with pytest.raises(HostedError, match="another process is at"), other.alone():
            raise AssertionError("two at a time")
    with JobFile(folder).alone():
        pass
