from pipeline.annotations.clips import Step, Turn, in_sequence_order, prompt_text


def test_prompt_is_the_designs():
    steps = (Step("S1", "Take it"), Step("S2", "Put it"))
    plain = "You are a proactive assistant helping with task completion.\n\nTask Steps:\n- S1: Take it\n- S2: Put it"
    assert prompt_text(steps, {"S1": "not_started", "S2": "not_started"}) == plain
    progress = "\n\nCurrent Progress: S1:completed, S2:in_progress"
    assert prompt_text(steps, {"S1": "completed", "S2": "in_progress"}) == plain + progress


def test_turns_stand_at_their_last_frame_with_context_first():
    dst = Turn("dst_update", "S1->start", 3, 5)
    user = Turn("user", "hi", 4, 5)
    says = Turn("assistant", "yes", 3, 5)
    late = Turn("user", "hm", 6, 6)
    system = Turn("system", "be kind", None, None)
    early = Turn("system", "also", 0, 1)
    assert in_sequence_order([dst, system, user, says, early, late], start_frame=2) == (
        system,
        early,
        user,
        dst,
        says,
        late,
    )
