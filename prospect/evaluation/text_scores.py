"""BLEU, CIDEr and METEOR of matched utterances, as the captioning toolkit pycocoevalcap defines them.

Its tokenizer (Penn Treebank) and METEOR run on Java. Without Java or the package there are no scores, as another
tokenizer would give other numbers under the same names; `TextScores.problem` says what to install. The tokenizer is
called here rather than through the package, which writes a file into its own folder and a line to stderr.
"""

import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import IO

BLEU = ("Bleu_1", "Bleu_2", "Bleu_3", "Bleu_4")
TEXT_SCORES = (*BLEU, "CIDEr", "METEOR")
ALIKE = (
    "no CIDEr: the matched references are one text, or all alike, and it weighs words by how few references have them, "
    "so that nothing has a weight"
)
_Tokenized = dict[int, list[str]]  # number of the pair -> its one text, tokens joined by spaces


@dataclass(frozen=True, slots=True)
class TextScores:
    """Scores over all pairs of a corpus; None where one is undefined or could not be computed."""

    scores: Mapping[str, float | None]  # of every name in TEXT_SCORES
    problem: str | None  # why, but where there is no pair to score


class _Failed(Exception):
    """A Java program did not do its work; the text says what it said."""


def text_scores(pairs: Sequence[tuple[str, str]], meteor: "MeteorProcess | None" = None) -> TextScores:
    """Score (prediction, reference) pairs; all None without a pair, CIDEr where the references are `alike`.

    Pairs whose reference has no token but punctuation are left out.

    Args:
        meteor: METEOR at work for several calls; None: for this one alone.
    """
    none: dict[str, float | None] = dict.fromkeys(TEXT_SCORES)
    if not pairs:
        return TextScores(none, None)
    if problem := missing():
        return TextScores(none, problem)
    from pycocoevalcap.bleu.bleu import Bleu
    from pycocoevalcap.cider.cider import Cider

    try:
        tokens = _tokenized([text for pair in pairs for text in pair])
    except _Failed as error:
        return TextScores(none, f"no BLEU, CIDEr and METEOR: the tokenizer failed on Java ({error})")
    kept = [number for number in range(len(pairs)) if tokens[2 * number + 1]]
    if not kept:
        return TextScores(none, None)
    predicted: _Tokenized = {number: [tokens[2 * number]] for number in kept}
    reference: _Tokenized = {number: [tokens[2 * number + 1]] for number in kept}
    bleu, _ = Bleu(len(BLEU)).compute_score(reference, predicted, verbose=0)
    scores = none | {name: float(score) for name, score in zip(BLEU, bleu, strict=True)}
    problem = ALIKE if alike(text for (text,) in reference.values()) else None
    if not problem:
        cider, _ = Cider().compute_score(reference, predicted)
        scores["CIDEr"] = float(cider)
    try:
        with nullcontext(meteor) if meteor else MeteorProcess() as process:
            return TextScores(scores | {"METEOR": process.score(reference, predicted)}, problem)
    except _Failed as error:
        return TextScores(scores, f"no METEOR: it failed on Java ({error})")


def alike(references: Iterable[str]) -> bool:
    """Say whether all of `references` have the same n-grams (1 to 4 words), so that CIDEr gives each the weight 0."""
    from pycocoevalcap.cider.cider_scorer import precook

    return len({frozenset(precook(" ".join(re.findall(r"\w+", text.lower())))) for text in references}) < 2


def missing() -> str | None:
    """Name what the text scores need and this machine lacks, with the fix; None: nothing."""
    needs = []
    if find_spec("pycocoevalcap") is None:
        needs.append("pycocoevalcap (pip install 'prospect-vlm[evaluate]')")
    if shutil.which("java") is None:
        needs.append("Java (apt-get install default-jre-headless)")
    return f"no BLEU, CIDEr and METEOR: they need {' and '.join(needs)}" if needs else None


def _tokenized(texts: Sequence[str]) -> list[str]:
    """Lower-case tokens of each text joined by spaces, punctuation left out."""
    from pycocoevalcap.tokenizer import ptbtokenizer

    jar = Path(ptbtokenizer.__file__).with_name(ptbtokenizer.STANFORD_CORENLP_3_4_1_JAR)
    command = ["java", "-cp", str(jar), "edu.stanford.nlp.process.PTBTokenizer", "-preserveLines", "-lowerCase"]
    lines = "\n".join(" ".join(text.split()) for text in texts)  # one line a text, whatever breaks it holds
    done = subprocess.run([*command, "-encoding", "UTF-8"], input=lines.encode(), capture_output=True)
    tokenized = done.stdout.decode().split("\n")[: len(texts)]
    if done.returncode or len(tokenized) != len(texts):
        raise _Failed(_last_line(done.stderr))
    return [" ".join(token for token in line.split() if token not in ptbtokenizer.PUNCTUATIONS) for line in tokenized]


class MeteorProcess:
    """METEOR's Java program, which reads its tables for seconds: started when it is first asked, and ended with the
    block, at once, whatever it is doing; a context manager. The package's own class waits for its lock as it goes."""

    def __init__(self) -> None:
        self._java: subprocess.Popen[bytes] | None = None
        self._said: IO[bytes] | None = None  # on its stderr: a file, as a pipe that nobody reads fills up

    def __enter__(self) -> "MeteorProcess":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        java, said = self._java, self._said
        self._java = self._said = None
        if java:
            java.kill()
            with suppress(BrokenPipeError), java:  # closes the pipes, and waits
                pass
        if said:
            said.close()

    def score(self, reference: _Tokenized, predicted: _Tokenized) -> float:
        """Score one corpus.

        Raises:
            _Failed: the program ended, or gave no number; another call starts it again.
        """
        try:
            if self._java is None:
                self._start()
            terms = [
                self._ask(f"SCORE ||| {of} ||| {predicted[number][0].replace('|||', '').replace('  ', ' ')}")
                for number, (of,) in reference.items()
            ]
            self._ask(" ||| ".join(["EVAL", *terms]))
            for _ in terms[1:]:  # a score a pair; then that of all
                self._answer()
            return float(self._answer())
        except (OSError, ValueError) as error:  # its pipe is closed, or it gives no number
            said = self._last_words(error)
            self.__exit__(None, None, None)
            raise _Failed(said) from None
        except BaseException:
            self.__exit__(None, None, None)
            raise

    def _start(self) -> None:
        from pycocoevalcap.meteor import meteor

        self._said = tempfile.TemporaryFile()  # noqa: SIM115 (until the block ends)
        command = ["java", "-jar", "-Xmx2G", meteor.METEOR_JAR, "-", "-", "-stdio", "-l", "en", "-norm"]
        folder = Path(meteor.__file__).parent
        self._java = subprocess.Popen(
            command, cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._said
        )

    def _ask(self, line: str) -> str:
        assert self._java and self._java.stdin
        self._java.stdin.write(f"{line}\n".encode())
        self._java.stdin.flush()
        return self._answer()

    def _answer(self) -> str:
        """Raises ValueError at the end of its output."""
        assert self._java and self._java.stdout
        line = self._java.stdout.readline().decode().strip()
        if not line:
            raise ValueError("it gave no answer")
        return line

    def _last_words(self, error: Exception) -> str:
        if self._java is None or self._said is None:
            return str(error)
        with suppress(subprocess.TimeoutExpired):
            self._java.wait(timeout=1)  # it has closed its pipes: what it has to say is there with its end
        self._said.seek(0)
        return _last_line(self._said.read())


def _last_line(output: bytes) -> str:
    return (output.decode(errors="replace").strip() or "no message").splitlines()[-1]
