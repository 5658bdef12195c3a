"""Dialogues in the layout of ProAssist's prepared files."""

KNOWLEDGE = "Making tea\n1. Boil the water\n2) Pour it:\n   - slowly\n\n3. Drink"
PROGRESS = "The time elapsed since the start of the task is 9.0 seconds. The water boils."
NEXT_PROGRESS = "The time elapsed since the start of the task is 20.0 seconds. It is poured."


def prepared(**changes):
    return {
        "dataset": "wtag",
        "video_uid": "v",
        "clip_idx": 0,
        "frames_file": "frames/v.arrow",
        "fps": 2,
        "start_frame_idx": 11,
        "end_frame_idx": 20,
        "conversation": [
            {"role": "system", "content": "Be proactive."},
            {"role": "frames", "start": 11, "end": 15},
            {"role": "user", "time": 7.8, "content": "I want tea.", "labels": ""},
            {"role": "system", "content": f"Task knowledge: {KNOWLEDGE}"},
            {"role": "frames", "start": 15, "end": 16},
            {"role": "assistant", "time": 7.9, "content": "Boil water.", "labels": "initiative", "progress": PROGRESS},
            {"role": "system", "content": "Please summarize the progress."},
            {"role": "frames", "start": 16, "end": 17},
            {"role": "assistant", "content": PROGRESS},
        ],
        "metadata": {"knowledge": KNOWLEDGE, "user_id": "talk_0", "progress": PROGRESS, "has_summary": True},
    } | changes


def second_part(**changes):
    return prepared(
        clip_idx=1,
        conversation=[
            {"role": "system", "content": f"Be proactive. {PROGRESS} Task knowledge: {KNOWLEDGE}"},
            {"role": "frames", "start": 14, "end": 20},
            {"role": "assistant", "time": 9.5, "content": "Now pour.", "progress": NEXT_PROGRESS},
        ],
        metadata={"knowledge": KNOWLEDGE, "user_id": "talk_0", "progress": None},
        **changes,
    )
