"""Readers of the three small clips."""

from prospect.config import DataConfig
from prospect.data.index import read_split
from prospect.data.reader import SequenceReader
from prospect.data.sequences import sequence_table
from prospect.layout import Tokens


def reader(root, tokenizer, shards="plain", sampling=None, **settings):
    data = DataConfig(dataset="x", shards=root / shards, root=root / "data", **settings)
    split = read_split(data.shards, "x", "train", data.root)
    tokens = Tokens(tokenizer, 1)
    return SequenceReader(split, sequence_table(split, tokens, data), tokens, data, 32, sampling)
