"""The tokenizer in a GGUF file, as published: transformers reads the weights there, but splits text by the model's
architecture, where the file names the rule (`tokenizer.ggml.pre`); SmolLM2's digits and spaces got other ids by it.

https://github.com/ggml-org/ggml/blob/master/docs/gguf.md has the keys, llama.cpp's src/llama-vocab.cpp the names of the
rules; the rules here are those of the models' own tokenizer.json.
"""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

from pipeline.errors import ProspectError
from pipeline.io.records import shown

CONTROL, USER_DEFINED = 3, 4  # values of tokenizer.ggml.token_type
_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|DIGITS| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def _by(digits: str) -> Any:
    words = pre_tokenizers.Split(Regex(_WORDS.replace("DIGITS", digits)), "isolated")
    return pre_tokenizers.Sequence([words, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


def _smollm() -> Any:
    digits = pre_tokenizers.Digits(individual_digits=True)
    return pre_tokenizers.Sequence([digits, pre_tokenizers.ByteLevel(add_prefix_space=False)])


SPLITS = {
    "smollm": _smollm,  # SmolLM, SmolLM2
    "gpt-2": lambda: pre_tokenizers.ByteLevel(add_prefix_space=False),
    "llama-bpe": lambda: _by(r"\p{N}{1,3}"),  # Llama 3, SmolLM3
    "qwen2": lambda: _by(r"\p{N}"),  # Qwen2, Qwen3
}


def check_reader(place: Path) -> None:
    """Raise ProspectError where the package that reads GGUF files is not there."""
    if find_spec("gguf") is None:
        raise ProspectError(f"{place}: needs the package gguf to be read; run: pip install gguf")


def gguf_tokenizer(place: Path) -> Tokenizer:
    """Read the tokenizer of a GGUF file.

    Raises:
        ProspectError: it is of a kind whose ids could not be given exactly.
    """
    from gguf import GGUFReader

    fields = GGUFReader(place).fields  # type: ignore[no-untyped-call,unused-ignore]  # the package may not be there
    known = {
        name: fields[key].contents()
        for name in ("model", "pre", "tokens", "token_type", "merges")
        if (key := f"tokenizer.ggml.{name}") in fields
    }
    kind, rule = known.get("model"), known.get("pre")
    if kind != "gpt2" or rule not in SPLITS or "merges" not in known:
        raise ProspectError(
            f"{place}: found a tokenizer of kind {shown(kind)} with the splits of {shown(rule)}, expected kind 'gpt2' "
            f"with those of {', '.join(SPLITS)}; give the model's folder with its tokenizer.json"
        )
    tokens, types = known["tokens"], known.get("token_type", [])
    merges = [tuple(pair.split(" ")) for pair in known["merges"]]
    vocabulary = {token: number for number, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.BPE(vocabulary, merges, ignore_merges=rule == "llama-bpe"))
    splits: Any = SPLITS[rule]
    tokenizer.pre_tokenizer = splits()
    tokenizer.decoder = decoders.ByteLevel()
    if rule == "qwen2":
        tokenizer.normalizer = normalizers.NFC()
    for token, how in zip(tokens, types, strict=bool(types)):
        if how in (CONTROL, USER_DEFINED):
            added = AddedToken(token, special=how == CONTROL, normalized=False)
            (tokenizer.add_special_tokens if how == CONTROL else tokenizer.add_tokens)([added])
    return tokenizer
