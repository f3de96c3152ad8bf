"""What takes part: parties that continue prompts, given as token ids, always with the most likely token."""

import socket
from typing import NamedTuple

THREADS = 2
CONTEXT = 1024
MAX_NEW_TOKENS = 96
# rows of a forward
SIZES = [1, 2, 4, 8, 16]


class Unavailable(Exception):
    """A party cannot run a model. The message is a sentence that says why."""


class Prompt(NamedTuple):
    set: str
    ids: list[int]
    # what the ids were made from, special tokens included: for parties that take no ids
    text: str


class Answer(NamedTuple):
    # none where a party does not tell them
    tokens: list[int] | None
    # tokens after the first, which comes from the prompt
    decoded: int
    # after the prompt
    seconds: float
    # after the prompt, where they are known
    forwards: int | None = None


class Party:
    """Started once for a file, asked in every round, stopped. All but `stop` raise Unavailable."""

    name: str

    def start(self, file, scratch):
        """Loads a GGUF file."""

    def warm_up(self, prompt):
        """Answers a prompt that does not count."""
        self.answer([prompt])

    def begin_round(self, prompt):
        """Before every round but the first: forgets those before, which had the same prompts; `prompt` may serve to warm up again."""

    def answer(self, prompts):
        """Answers in the order of the prompts."""
        raise NotImplementedError

    def stop(self):
        """Ends what `start` began; also after it failed."""


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]
