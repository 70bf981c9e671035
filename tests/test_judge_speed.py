from benchmarks.judge_speed import GENERATED, SEPARATE, TREE, main, sample, table
from nbutils.profiles import DATA
from nbutils.records import load_dataset


def test_the_table_by_hand():
    # 20 pairs in 2, 5 and 30 seconds: 10, 4 and 0.67 a second; 30 / 2 = 15 and 30 / 5 = 6 times.
    lines = table(20, {TREE: 2.0, SEPARATE: 5.0, GENERATED: 30.0}).splitlines()
    assert [line.split()[-3:] for line in lines[1:4]] == [
        ["10.00", "0.100", "15.0x"],
        ["4.00", "0.250", "6.0x"],
        ["0.67", "1.500", "1.0x"],
    ]
    assert lines[4].endswith("at least 10x: reached")
    assert table(20, {TREE: 3.1, GENERATED: 30.0}).endswith("missed")  # 9.7 times


def test_the_sample_is_of_whole_test_questions():
    data = load_dataset(DATA)
    groups = sample(data, 5)
    for group in groups:
        (question,) = {pair.question_id for pair in group}
        assert group == [p for p in data.pairs if p.question_id == question]
        assert {pair.split for pair in group} == {"test"}
    assert len(groups) == 5 and groups == sample(data, 5)


def test_without_a_student_it_says_what_trains_one(tmp_path, capsys):
    assert main(["--student", str(tmp_path)]) == 1
    assert "there is no student yet; make run trains one" in capsys.readouterr().err
