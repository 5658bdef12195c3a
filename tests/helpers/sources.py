"""A small file of each source that `prospect import` reads, named as README names them."""

import json
from pathlib import Path
from zipfile import ZipFile

from tests.helpers.prepared import prepared

TIMES = (
    "video,step,start_s,end_s,text,role\ncup,Boil water,0:01,4,,\ncup,,4,,Now pour it.,assistant\ncup,Pour it,4,8,,\n"
)
SLOTS = '<TIME_SLOT TIME_SLOT_ID="a" TIME_VALUE="1500"/><TIME_SLOT TIME_SLOT_ID="b" TIME_VALUE="4000"/>'
VALUE = "<ANNOTATION_VALUE>Boil</ANNOTATION_VALUE>"
ALIGNED = (
    f'<ALIGNABLE_ANNOTATION ANNOTATION_ID="1" TIME_SLOT_REF1="a" TIME_SLOT_REF2="b">{VALUE}</ALIGNABLE_ANNOTATION>'
)
EAF = (
    '<?xml version="1.0" encoding="UTF-8"?>\n<ANNOTATION_DOCUMENT><HEADER TIME_UNITS="milliseconds">'
    f'<MEDIA_DESCRIPTOR MEDIA_URL="file:///tea.mp4"/></HEADER><TIME_ORDER>{SLOTS}</TIME_ORDER>'
    f'<TIER TIER_ID="steps"><ANNOTATION>{ALIGNED}</ANNOTATION></TIER></ANNOTATION_DOCUMENT>'
)
REGION = {"ranges": [{"start": 1, "end": 31}], "timelinelabels": ["Boil"]}
RESULT = {"id": "r", "type": "timelinelabels", "from_name": "steps", "to_name": "video", "value": REGION}
EXPORT = [{"id": 1, "data": {"video": "cup.mp4"}, "annotations": [{"result": [RESULT]}]}]
DONE = {"step_id": 1, "start_time": 1, "end_time": 9, "description": "Boil-Boil water", "has_errors": False}
COOK = {
    "complete_step_annotations.json": {
        "1_7": {"recording_id": "1_7", "activity_id": 1, "activity_name": "Tea", "steps": [DONE]}
    },
    "data_splits/recordings_data_split_combined.json": {"train": ["1_7"], "val": [], "test": []},
    "task_graphs/tea.json": {"steps": {"0": "START", "1": "Boil-Boil water", "2": "END"}, "edges": [[0, 1], [1, 2]]},
}
SESSION = """Instructions
1. Add rocks.
2. Done

Dialogue
[00:00:00, 00:00:05]
Turn 1
User: How?
Expert: Add rocks.

[00:00:01, 00:00:05]
Turn 2
User: Done.
Expert: Well done.
"""
SAID = {"user_type": "no_talk", "conversation": [{"role": "assistant", "time": 1.5, "content": "Boil water."}]}
GENERATED = {
    "video_uid": "cup",
    "inferred_knowledge": "Tea\n1. Boil water\n2. Pour it",
    "conversations": [SAID],
    "parsed_video_anns": {"all_step_descriptions": "[1.0s-4.0s] boil water\n[4.0s-8.0s] pour it\n"},
}
FORK = {
    "video_uid": "cup",
    "dst": [{"id": "S1", "name": "Boil", "start_ts": 1.0, "end_ts": 4.0}],
    "conversation": [{"role": "DST_UPDATE", "time": 1.0, "content": [{"id": "S1", "transition": "start"}]}],
}


def write_sources(folder: Path) -> None:
    """Write them all into `folder`."""
    rated = prepared()
    rated["metadata"] |= {"quality": 8.5, "user_type": "no_talk"}
    texts = {
        "times.csv": TIMES,
        "tea.eaf": EAF,
        "export.json": json.dumps(EXPORT),
        **{f"annotations/{name}": json.dumps(value) for name, value in COOK.items()},
        "annotations/video_information.csv": "recording_id,duration(sec)\n1_7,60\n",
        "annots/nusar_1.csv": "30,60,attach,cabin,interior,correct,\n",
        "generated_dialogs/train_filtered.json": json.dumps([GENERATED]),
        "train_training.json": json.dumps([FORK]),
        "prepared/dialog_train_L4096_I1.jsonl": json.dumps(rated) + "\n",
    }
    for name, text in texts.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    name = "NIV DIV/repot/repot_0001_dialogue.txt"
    with ZipFile(folder / "HowToDIVDataset.zip", "w") as archive:
        archive.writestr(f"HowToDIV/{name}", SESSION)
        for split in ("train", "val", "test"):
            archive.writestr(f"HowToDIV/{split}_ids.txt", f"HowToDIV/{name}\n" * (split == "train"))
