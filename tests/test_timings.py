"""Timings: one file that the runner and the notebooks share."""

from nbutils.runner.timings import read_timings, record_timing


def test_each_writer_keeps_what_the_others_wrote(tmp_path):
    assert read_timings(tmp_path) == {}
    record_timing(tmp_path, "notebooks", "05_distil", {"seconds": 2.0})
    record_timing(tmp_path, "judges", "lora", {"seconds": 1.5})
    record_timing(tmp_path, "judges", "probe", {"seconds": 0.5})
    record_timing(tmp_path, "judges", "lora", {"seconds": 1.0})  # the second run's
    assert read_timings(tmp_path) == {
        "notebooks": {"05_distil": {"seconds": 2.0}},
        "judges": {"lora": {"seconds": 1.0}, "probe": {"seconds": 0.5}},
    }
