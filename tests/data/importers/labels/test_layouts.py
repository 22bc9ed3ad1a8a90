"""Labels in the layouts of annotation tools and data sets, written as their publishers write them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from etad.data.annotations import read_annotations
from etad.data.detections import Detections
from etad.data.errors import EtadError
from etad.data.importers.detections.export import export_all
from etad.data.importers.labels.read import read_labels
from etad.data.importers.labels.rows import Labels, write_annotations


def read(path: Path, content: str | bytes, **options: Any) -> Labels:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_labels(path, **options)


def actions(labels: Labels) -> list[tuple[str, float, float, str]]:
    return [(row.video, row.start_seconds, row.end_seconds, row.label) for row in labels.rows]


BORIS_7 = (
    '"Observation id","rats 1","","","","","","",""\n"Media file(s)","","","","","","","",""\n'
    '"Player #1","C:\\rats\\rat 1.avi","","","","","","",""\n"","","","","","","","",""\n'
    "Time,Media file path,Total length,FPS,Subject,Behavior,Behavioral category,Comment,Status\n"
    "1.000,C:\\rats\\rat 1.avi,100.5,25.00,a,rear,posture,,START\n"
    "1.500,C:\\rats\\rat 1.avi,100.5,25.00,b,rear,posture,,START\n"
    "2.000,C:\\rats\\rat 1.avi,100.5,25.00,a,sneeze,other,,POINT\n"
    "3.250,C:\\rats\\rat 1.avi,100.5,25.00,a,rear,posture,,STOP\n"
    "4.000,C:\\rats\\rat 1.avi,100.5,25.00,b,rear,posture,,STOP\n"
    "9.000,C:\\rats\\rat 1.avi,100.5,25.00,a,rear,posture,,START\n"
)
BORIS_8_TABULAR = (
    "Observation id\tObservation date\tDescription\tObservation duration\tObservation type\tSource\tTime offset (s)\t"
    "Coding duration\tMedia duration (s)\tFPS (frame/s)\tSubject\tBehavior\tBehavioral category\tModifier #1\t"
    "Behavior type\tTime\tMedia file name\tImage index\tImage file path\tComment\n"
    + "".join(
        f"o1\t2024-01-01\t\t60\tMedia file(s)\tplayer #1:v.mp4\t0\t60\t60.0\t25\tNo focal subject\trun\t\tfast\t"
        f"{event}\tx/v.mp4\t\t\t\n"
        for event in ("START\t2.5", "STOP\t7.0")
    )
)
BORIS_8_AGGREGATED = (
    "Observation id,Observation date,Description,Observation type,Source,Time offset (s),Coding duration,"
    "Media duration (s),FPS (frame/s),Subject,Observation duration by subject by observation,Behavior,"
    "Behavioral category,Behavior type,Start (s),Stop (s),Duration (s),Media file name,Image index start\n"
    "o1,,,Media file(s),player #1:v.mp4,0,60,60.0,25,s,60,run,,STATE,2.5,7.0,4.5,x/v.mp4,\n"
    "o1,,,Media file(s),player #1:v.mp4,0,60,60.0,25,s,60,sneeze,,POINT,3.0,3.0,NA,x/v.mp4,\n"
    'o2,,,Media file(s),,0,60,120,25,s,60,run,,STATE,2.5,7.0,4.5,"a.mp4;b.mp4",\n'
)


def test_boris_tabular_events_are_paired_within_their_subject(tmp_path: Path) -> None:
    labels = read(tmp_path / "old.csv", BORIS_7)
    assert labels.layout == "boris" and labels.durations == {"rat 1": 100.5}
    assert actions(labels) == [("rat 1", 1.0, 3.25, "rear"), ("rat 1", 1.5, 4.0, "rear")]
    assert labels.left_out == ("row 11: 'rear' starts and never stops",)
    assert any("1 point event have no length" in note or "1 point event has no length" in note for note in labels.notes)
    assert actions(read(tmp_path / "new.tsv", BORIS_8_TABULAR)) == [("v", 2.5, 7.0, "run")]


def test_boris_aggregated_events_are_read(tmp_path: Path) -> None:
    labels = read(tmp_path / "aggregated.csv", BORIS_8_AGGREGATED)
    assert actions(labels) == [("v", 2.5, 7.0, "run")] and labels.durations == {"v": 60.0}
    assert "several media files" in labels.left_out[0]


def test_boris_events_that_stop_first_or_start_twice_are_listed(tmp_path: Path) -> None:
    head = "Time,Media file path,Total length,FPS,Subject,Behavior,Behavioral category,Comment,Status\n"
    rows = (
        "1,v.mp4,9,25,a,run,,,STOP\n2,v.mp4,9,25,a,run,,,START\n3,v.mp4,9,25,a,run,,,START\nx,v.mp4,9,25,a,run,,,STOP\n"
    )
    labels = read(tmp_path / "events.csv", head + rows + "5,v.mp4,9,25,a,run,,,STOP\n")
    assert actions(labels) == [("v", 2.0, 5.0, "run")]
    assert [why.split(": ")[0] for why in labels.left_out] == ["row 2", "row 4", "row 5"]


def label_studio(*results: dict[str, Any], video: str = "https://host/upload/cat%201.mp4?x=1") -> str:
    return json.dumps([{"id": 7, "data": {"video": video}, "annotations": [{"result": list(results)}]}])


def test_label_studios_ranges_are_frames_counted_from_one(tmp_path: Path) -> None:
    result = {"type": "timelinelabels", "value": {"ranges": [{"start": 26, "end": 50}], "timelinelabels": ["a", "b"]}}
    path = tmp_path / "tasks.json"
    assert actions(read(path, label_studio(result), fps=25.0)) == [("cat 1", 1.0, 2.0, "a"), ("cat 1", 1.0, 2.0, "b")]
    with pytest.raises(EtadError, match="does not write their rate. Give it with --fps".replace(".", r"\.")):
        read_labels(path)
    bad = read(
        path,
        label_studio({"value": {"ranges": [{"start": "x"}, 3, {"start": 1, "end": 9}], "timelinelabels": ["a"]}}),
        fps=25.0,
    )
    assert bad.videos == ("cat 1",) and len(bad.left_out) == 2


@pytest.mark.parametrize(
    ("address", "video"),
    [
        ("/data/local-files/?d=day 1/cat.mp4", "cat"),
        ("/data/local-files/?d=cat.mp4", "cat"),
        ("/data/upload/12/0a1b2c3d-cat.mp4", "cat"),
        ("s3://bucket/clips/cat.mp4", "cat"),
        ("C:\\clips\\cat.mp4", "cat"),
        ("cat", "cat"),
        ("http://[bad/cat.mp4", "cat"),
    ],
)
def test_label_studio_names_videos_in_many_ways(address: str, video: str, tmp_path: Path) -> None:
    result = {"value": {"ranges": [{"start": 26, "end": 50}], "timelinelabels": ["a"]}}
    tasks = json.loads(label_studio(result, video=address))
    tasks[0]["data"] = {"note": "not a video", "clip": address} if "." in address else {"video": address}
    assert actions(read(tmp_path / "tasks.json", json.dumps(tasks), fps=25.0)) == [(video, 1.0, 2.0, "a")]


def test_label_studios_short_export_is_read_and_several_annotations_are_said(tmp_path: Path) -> None:
    short = {
        "video": "/data/upload/1/0a1b2c3d-cat.mp4",
        "id": 3,
        "videoLabels": [{"ranges": [{"start": 26, "end": 50}], "timelinelabels": ["a"]}],
        "annotator": 1,
    }
    labels = read(
        tmp_path / "short.json", json.dumps([short, {**short, "video": "dog.mp4", "videoLabels": "x"}]), fps=25
    )
    assert labels.layout == "label-studio" and actions(labels) == [("cat", 1.0, 2.0, "a")]
    assert labels.videos == ("cat", "dog")
    tasks = json.loads(label_studio({"value": {"ranges": [{"start": 1, "end": 5}], "timelinelabels": ["a"]}}))
    tasks[0]["annotations"] *= 2
    assert (
        "1 task with several annotations, all of which count"
        in read(tmp_path / "t.json", json.dumps(tasks), fps=9).notes
    )


def test_a_cancelled_annotation_of_label_studio_does_not_count(tmp_path: Path) -> None:
    tasks = json.loads(label_studio({"value": {"ranges": [{"start": 1, "end": 5}], "timelinelabels": ["a"]}}))
    tasks[0]["annotations"][0]["was_cancelled"] = True
    assert read(tmp_path / "tasks.json", json.dumps(tasks)).rows == ()


DETECTIONS = Detections.join(
    [
        ("cat 1", np.array([[1.0, 2.0], [0.2, 4.4]]), np.array([1, 0]), np.array([0.75, 0.5])),
        ("dog", np.array([[3.2, 3.24]]), np.array([0]), np.array([0.25])),
    ],
    labels=("jump", "run, fast"),
)
WRITTEN = [("cat 1", 1.0, 2.0, "run, fast"), ("cat 1", 0.2, 4.4, "jump"), ("dog", 3.2, 3.24, "jump")]


@pytest.mark.parametrize(("layout", "suffix"), [("boris-aggregated", "tsv"), ("csv", "csv")])
def test_detections_come_back_exactly_from_tables(layout: str, suffix: str, tmp_path: Path) -> None:
    assert export_all(DETECTIONS, tmp_path / f"out.{suffix}", layout=layout) == (3, 1)
    assert actions(read_labels(tmp_path / f"out.{suffix}")) == WRITTEN


def test_detections_come_back_from_label_studio_to_the_frame(tmp_path: Path) -> None:
    with pytest.raises(EtadError, match="give the videos' rate with --fps"):
        export_all(DETECTIONS, tmp_path / "tasks.json", layout="label-studio")
    export_all(DETECTIONS, tmp_path / "tasks.json", layout="label-studio", fps=25.0)
    tasks = json.loads((tmp_path / "tasks.json").read_text())
    assert [task["predictions"][0]["score"] for task in tasks] == [0.75, 0.25]
    for task in tasks:  # as if somebody had accepted all of them
        task["annotations"] = task.pop("predictions")
    found = actions(read(tmp_path / "accepted.json", json.dumps(tasks), fps=25.0))
    assert [row[0::3] for row in found] == [row[0::3] for row in WRITTEN]
    assert np.allclose([row[1:3] for row in found], [row[1:3] for row in WRITTEN])


def test_thumos14_is_read_from_its_folder_and_its_table(tmp_path: Path, shared: Path) -> None:
    folder = tmp_path / "annotation"
    folder.mkdir()
    (folder / "BaseballPitch_val.txt").write_text(
        "video_validation_0000266  72.8 76.4\nvideo_validation_0000681 44.0\n"
    )
    (folder / "Diving_test.txt").write_text("video_test_0000062  13.3 16.5\n")
    labels = read_labels(folder)
    assert actions(labels) == [
        ("video_validation_0000266", 72.8, 76.4, "BaseballPitch"),
        ("video_test_0000062", 13.3, 16.5, "Diving"),
    ]
    assert labels.subsets["video_validation_0000266"] == "training" and labels.subsets["video_test_0000062"] == "test"
    assert labels.left_out[0].startswith("BaseballPitch_val.txt, line 2: '' is no time")
    table = read_labels(shared / "annotations" / "thumos14_val_Annotation.csv")
    assert table.layout == "thumos14" and len(table.videos) == 200 and set(table.subsets.values()) == {"training"}


def test_published_annotations_are_the_same_from_the_table_and_from_json(shared: Path) -> None:
    known = read_annotations(shared / "annotations" / "thumos14.json")
    assert len(known.videos) == 410
    for name in ("val", "test"):
        labels = read_labels(shared / "annotations" / f"thumos14_{name}_Annotation.csv")
        for video in known.videos.keys() & set(labels.videos):
            mine = sorted((r.start_seconds, r.end_seconds, r.label) for r in labels.rows if r.video == video)
            theirs = {(a.start_seconds, a.end_seconds, a.label) for a in known.videos[video].actions}
            assert {row for row in mine if row[2] != "Ambiguous"} == theirs, video


def test_hacs_clips_that_do_not_show_their_class_are_no_actions(tmp_path: Path) -> None:
    head = "classname,youtube_id,subset,start,end,label\n"
    text = head + "Archery,a-_1,training,1.0,3.0,1\nArchery,b,validation,0.0,2.0,-1\n"
    labels = read(tmp_path / "HACS_clips.csv", text)
    assert actions(labels) == [("a-_1", 1.0, 3.0, "Archery")] and labels.videos == ("a-_1", "b")
    assert labels.subsets == {"a-_1": "training", "b": "validation"} and "1 clip " in labels.notes[0]


def test_charades_rows_hold_many_actions(tmp_path: Path) -> None:
    text = (
        "id,subject,scene,quality,relevance,verified,script,objects,descriptions,actions,length\n"
        '46GP8,HR43,Kitchen,6,7,Yes,"A person, cooking.",food,x,c092 11.90 21.20;c147 0.00 12.60;c1 x,24.83\n'
        "N11GT,HR43,Kitchen,6,7,Yes,,,,,18.33\n"
    )
    labels = read(tmp_path / "Charades_v1_train.csv", text)
    assert actions(labels) == [("46GP8", 11.9, 21.2, "c092"), ("46GP8", 0.0, 12.6, "c147")]
    assert labels.durations == {"46GP8": 24.83, "N11GT": 18.33} and set(labels.subsets.values()) == {"training"}
    assert len(labels.left_out) == 1 and "c1 x" in labels.left_out[0]


def test_epic_kitchens_labels_are_classes_of_verbs_and_nouns_can_be_told(tmp_path: Path) -> None:
    text = (
        "narration_id,participant_id,video_id,narration_timestamp,start_timestamp,stop_timestamp,start_frame,"
        "stop_frame,narration,verb,verb_class,noun,noun_class,all_nouns,all_noun_classes\n"
        "P01_102_0,P01,P01_102,00:00:01.100,00:00:00.54,00:00:02.23,27,111,take knife and plate,take,0,knife,4,"
        "\"['knife', 'plate']\",\"[4, 2]\"\n"
        "P01_102_1,P01,P01_102,00:00:04.100,00:00:03.54,00:00:05.23,27,111,grab lid,grab,0,lid,6,['lid'],[6]\n"
    )
    path = tmp_path / "EPIC_100_train.csv"
    assert actions(read(path, text)) == [("P01_102", 0.54, 2.23, "verb 0"), ("P01_102", 3.54, 5.23, "verb 0")]
    nouns = read_labels(path, layout="table", columns={"label": "noun"})
    assert actions(nouns) == [("P01_102", 0.54, 2.23, "knife"), ("P01_102", 3.54, 5.23, "lid")]
    (tmp_path / "EPIC_100_verb_classes.csv").write_text("id,key,instances,category\n0,take,\"['grab', 'take']\",x\n")
    assert read_labels(path).classes == ("take",)


ELAN = """<?xml version="1.0" encoding="UTF-8"?>
<ANNOTATION_DOCUMENT AUTHOR="" DATE="2024-01-01T00:00:00+00:00" FORMAT="3.0" VERSION="3.0">
<HEADER MEDIA_FILE="" TIME_UNITS="milliseconds">
<MEDIA_DESCRIPTOR MEDIA_URL="file:///C:/x/cat%201.mp4" MIME_TYPE="video/mp4"/></HEADER>
<TIME_ORDER><TIME_SLOT TIME_SLOT_ID="ts1" TIME_VALUE="1500"/><TIME_SLOT TIME_SLOT_ID="ts2" TIME_VALUE="2000"/>
<TIME_SLOT TIME_SLOT_ID="ts3"/></TIME_ORDER>
<TIER LINGUISTIC_TYPE_REF="default" TIER_ID="acts"><ANNOTATION><ALIGNABLE_ANNOTATION ANNOTATION_ID="a1"
TIME_SLOT_REF1="ts1" TIME_SLOT_REF2="ts2"><ANNOTATION_VALUE>jump</ANNOTATION_VALUE></ALIGNABLE_ANNOTATION></ANNOTATION>
<ANNOTATION><ALIGNABLE_ANNOTATION ANNOTATION_ID="a2" TIME_SLOT_REF1="ts2" TIME_SLOT_REF2="ts3">
<ANNOTATION_VALUE>run</ANNOTATION_VALUE></ALIGNABLE_ANNOTATION></ANNOTATION></TIER></ANNOTATION_DOCUMENT>"""


def test_elan_documents_are_read_and_entities_refused(tmp_path: Path) -> None:
    labels = read(tmp_path / "cat.eaf", ELAN)
    assert actions(labels) == [("cat 1", 1.5, 2.0, "jump")]
    assert labels.left_out == ("tier 'acts', annotation 2: points at no time of the document",)
    bomb = ELAN.replace("<ANNOTATION_DOCUMENT", '<!DOCTYPE x [<!ENTITY a "aaaa">]><ANNOTATION_DOCUMENT', 1)
    with pytest.raises(EtadError, match="declares XML entities"):
        read(tmp_path / "bomb.eaf", bomb)
    with pytest.raises(EtadError, match="no XML that can be read"):
        read(tmp_path / "cut.eaf", ELAN[:-30])


def via(**metadata: Any) -> str:
    return json.dumps(
        {
            "project": {"pid": "x", "vid_list": ["1"]},
            "config": {},
            "attribute": {"1": {"aname": "activity", "type": 4, "options": {"0": "jump", "1": "run"}}},
            "file": {"1": {"fid": "1", "fname": "cat 1.mp4", "type": 4}},
            "view": {"1": {"fid_list": ["1"]}},
            "metadata": metadata,
        }
    )


def test_via_segments_are_read_by_the_names_of_their_options(tmp_path: Path) -> None:
    entries = {
        "1_a": {"vid": "1", "flg": 0, "z": [1.5, 2.0], "xy": [], "av": {"1": "1"}},
        "1_b": {"vid": "1", "flg": 0, "z": [4.0], "xy": [1, 0, 0, 5, 5], "av": {}},
        "1_c": {"vid": "9", "flg": 0, "z": [1, 2], "xy": [], "av": {"1": "1"}},
        "1_d": {"vid": "1", "flg": 0, "z": [None, 2], "xy": [], "av": {"1": "1"}},
    }
    labels = read(tmp_path / "project.json", via(**entries))
    assert labels.layout == "via" and actions(labels) == [("cat 1", 1.5, 2.0, "run")]
    both = {"vid": "1", "z": [1, 2], "av": {"1": "0,1", "2": "_DEFAULT"}}
    odd = {"vid": "1", "z": [3, 4], "av": ["1"]}
    labels_of_both = read(tmp_path / "both.json", via(a=both, b=odd))
    assert actions(labels_of_both) == [("cat 1", 1.0, 2.0, "jump"), ("cat 1", 1.0, 2.0, "run")]
    assert len(labels_of_both.left_out) == 1
    assert len(labels.left_out) == 2 and "1 region of single pictures passed over" in labels.notes[0]


def test_a_segment_of_via_that_stands_twice_is_listed(tmp_path: Path) -> None:
    text = via(a={"vid": "1", "z": [1, 2], "av": {"1": "1"}})
    segment = text[text.index('"a": {') : text.index("}}", text.index('"a": {')) + 2]
    path = tmp_path / "twice.json"
    path.write_text(text.replace(segment, f"{segment}, {segment}"))
    found = read_labels(path)
    assert len(found.rows) == 1
    assert found.left_out == ("metadata 'a': stands twice, and what its first entry says is lost; keep one",)


@pytest.mark.parametrize(
    "layout", ["boris", "label-studio", "via", "elan", "charades", "hacs", "epic-kitchens", "thumos14"]
)
def test_a_layout_that_is_told_but_is_not_there_gets_a_sentence(layout: str, tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    for content in (b"video,start,end,label\na,1,2,x\n", b"{}", b"[1, [2]]", b"<x/>", b""):
        path.write_bytes(content)
        try:
            assert read_labels(path, layout=layout, fps=25.0).rows == ()
        except EtadError as error:
            assert str(path) in str(error)


def test_what_is_imported_is_read_as_annotations(tmp_path: Path) -> None:
    write_annotations(
        tmp_path / "annotations.json",
        read(tmp_path / "project.json", via(a={"vid": "1", "z": [1, 2], "av": {"1": "0"}})),
    )
    video = read_annotations(tmp_path / "annotations.json").videos["cat 1"]
    assert (video.actions[0].label, video.actions[0].end_seconds) == ("jump", 2.0)
