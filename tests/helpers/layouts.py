"""A clip laid out, and its decisions read back as words."""

from pipeline.annotations.clips import Turn
from prospect.layout import IGNORE, Tokens, TokenSequence, clip_sequence, cut_parts
from tests.helpers.fakes import clip_texts, make_clip, pieces, word_tokenizer


def setup(clip, tokens_per_frame=1, frame_wrap="none"):
    tokenizer = word_tokenizer(clip_texts(clip))
    return tokenizer, Tokens(tokenizer, tokens_per_frame, frame_wrap)


def whole(tokens, clip, event_margin=0):
    (part,) = cut_parts(tokens, clip, 10**6, 10**3)
    sequence = clip_sequence(tokens, clip, part, event_margin=event_margin)
    assert len(sequence) == part.num_tokens
    return sequence


def decisions(sequence: TokenSequence, tokenizer) -> list[tuple[str, int, int]]:
    """(what the decision follows, update, speak) for every labelled position."""
    found, frame = [], iter(sequence.frames)
    at = ""
    for position, token in enumerate(pieces(tokenizer, sequence.ids)):
        if sequence.at_frame[position]:
            at = str(next(frame))
        elif token == "\n":
            at = pieces(tokenizer, sequence.ids[:position])[-2].strip()
        if sequence.update_labels[position] != IGNORE:
            assert sequence.speak_labels[position] != IGNORE
            found.append((at, sequence.update_labels[position], sequence.speak_labels[position]))
    return found


CLIP = make_clip(
    [
        Turn("system", "be kind", None, None),
        Turn("user", "hi <image>", 1, 2),
        Turn("dst_update", "S1->start", 1, 2),
        Turn("assistant", "go on", 1, 2),
        Turn("dst_update", "S1->complete, S2->start", 4, 5),
    ],
    frames=(0, 6),
)
