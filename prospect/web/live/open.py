"""A checkpoint made ready for a live page, and recordings whose end never came made whole."""

from pathlib import Path

from pipeline.errors import ProspectError
from pipeline.progress import Tell
from prospect.model.hub import checkpoint_folder, checkpoint_name
from prospect.stream.load import Overrides, load_streamer
from prospect.stream.rate import rate_note, rate_of_stream, trained_rates
from prospect.web.live.recording import recover
from prospect.web.live.session import About, Session


def open_session(checkpoint: str, overrides: Overrides, fps: float | None, out: Path, tell: Tell) -> Session:
    """Load a checkpoint.

    Args:
        fps: frames a second; None: as the checkpoint was trained.
        out: of recordings.
        tell: hears what happens, a line an event.

    Raises:
        ProspectError: no such checkpoint, or a damaged one.
    """
    try:
        for name in recover(out):
            tell(f"{out}: the recording {name} had not ended; what there was of it is whole now")
    except (ProspectError, OSError) as error:  # a recording that waits keeps nobody from streaming
        tell(f"note: {error}")
    checkpoint = checkpoint_folder(checkpoint)
    streamer = load_streamer(checkpoint, overrides)
    trained = trained_rates(checkpoint, streamer.model.prospect_settings.extra)
    rate = rate_of_stream(fps, None, trained)
    if note := rate_note([rate], trained):
        tell(f"note: {note}")
    if streamer.settings.memory != "dst":
        tell("note: this checkpoint tracks no state: it only speaks")
    return Session(streamer, About(checkpoint_name(checkpoint), rate, trained, out), tell)
