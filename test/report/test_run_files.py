"""What pages read back from the files of an evaluation."""

from report.run_files import EvaluationFiles


def test_names_of_several_classes_are_those_that_exist(tmp_path):
    (tmp_path / "summary.json").write_text('{"mean_average_precision": 1}')
    (tmp_path / "per_class.csv").write_text(
        "label,class,videos,average_precision\n0,open; close,1,1\n1,open,1,1\n2,run,1,1\n"
    )
    (tmp_path / "predictions.csv").write_text(
        "index,id,path,classes,guess1,probability1\n"
        "0,a,a.mp4,open; close; run,open; close,0.9\n1,b,b.mp4,open; run,run,0.8\n2,c,c.mp4,,run,0.8\n"
    )
    first, second, third = EvaluationFiles(tmp_path).items
    assert first.classes == ("open; close", "run") and second.classes == ("open", "run") and third.classes == ()
