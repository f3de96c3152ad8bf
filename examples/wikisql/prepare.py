"""Writes prepared/ from data/: the questions in lower case, and for `adapt` as many again that can only be answered by copying.

    train, dev, test.jsonl.gz   the same questions; the case of letters is left out, since that of a literal is not known from its question
    adapt.jsonl.gz              train, and each of its questions once more with other values and other columns in question, table and query

A model that is made anew sees too few names to learn that a name which it has never seen is copied letter by letter. The same seed gives
the same bytes.
"""

import argparse
import gzip
import json
import pathlib
import random
import re

HERE = pathlib.Path(__file__).parent
SPLITS = ["train", "dev", "test"]
# a query by its parts: columns, literals, numbers that are compared with
PARTS = re.compile(r"\"(?P<column>[^\"]*)\"|'(?P<literal>(?:[^']|'')*)'|(?<=[=<>] )(?P<number>-?\d+(?:\.\d+)?)")
WORD = re.compile(r"\w")
RUNS = re.compile(r"[^\W\d_]+|\d+")
CONSONANTS, VOWELS = "bcdfghjklmnprstvwz", "aeiou"
# of the columns that a question names
RENAMED = 0.5


def lower(record):
    """Question and literals in lower case. Columns are so already, the words of SQL stay as they are."""
    table, question = record["prompt"].split("\n", 1)
    query = PARTS.sub(lambda part: part.group().lower(), record["completion"])
    return {**record, "prompt": f"{table}\n{question.lower()}", "completion": query}


class Names:
    """Names and values as those of real questions, with other words and other digits."""

    def __init__(self, records, seed):
        self.random = random.Random(seed)
        parts = [part for record in records for part in PARTS.finditer(record["completion"])]
        self.literals = [part["literal"] for part in parts if part["literal"]]
        self.columns = [part["column"] for part in parts if part["column"]]
        self.words = sorted({word for literal in self.literals for word in RUNS.findall(literal) if not word.isdigit()})

    def literal(self):
        return self.other(self.random.choice(self.literals))

    def column(self):
        return self.other(self.random.choice(self.columns))

    def other(self, name):
        return RUNS.sub(lambda run: self.digits(len(run.group())) if run.group().isdigit() else self.word(), name)

    def number(self, number):
        return re.sub(r"\d+", lambda run: self.digits(len(run.group())), number)

    def digits(self, count):
        return str(self.random.randrange(10 ** (count - 1), 10**count)) if count > 1 else str(self.random.randrange(10))

    def word(self):
        """Half of them are words that there are."""
        if self.random.random() < 0.5:
            return self.random.choice(self.words)
        syllables = (self.random.choice(CONSONANTS) + self.random.choice(VOWELS) for _ in range(self.random.randint(1, 3)))
        return "".join(syllables) + self.random.choice(["", *CONSONANTS])


def renamed(record, names):
    """The same question about other names, in question, table and query alike. What the question does not name stays."""
    table, question = record["prompt"].split("\n", 1)
    columns = set(re.findall(r"\"([^\"]*)\"", table))
    others = {}
    for kind, old in sorted({(part.lastgroup, part[part.lastgroup]) for part in PARTS.finditer(record["completion"])}, key=lambda part: (-len(part[1]), part)):
        spoken = old.replace("''", "'").replace("_", " ") if kind == "column" else old.replace("''", "'")
        # a mark, so that no name is found within another that has been put in
        marked = put(question, spoken, f"\0{len(others)}\0")
        if marked == question or kind == "column" and names.random.random() >= RENAMED:
            continue
        new = {"column": names.column, "literal": names.literal, "number": lambda: names.number(old)}[kind]()
        if kind == "column" and new in columns:
            continue
        others[kind, old], question = new, marked
    said = [new.replace("_", " ") if kind == "column" else new.replace("''", "'") for (kind, _), new in others.items()]
    question = re.sub("\0(\\d+)\0", lambda mark: said[int(mark.group(1))], question)
    table = re.sub(r"\"([^\"]*)\"", lambda column: f'"{others.get(("column", column.group(1)), column.group(1))}"', table)
    return {**record, "prompt": f"{table}\n{question}", "completion": PARTS.sub(lambda part: written(part, others), record["completion"])}


def put(text, name, mark):
    """The text with a mark for the name wherever that is not a part of a longer word."""
    pieces, copied, found = [], 0, text.find(name) if name.strip() else -1
    while found >= 0:
        end = found + len(name)
        if not WORD.match(text[found - 1 : found] if found else "") and not WORD.match(text[end : end + 1]):
            pieces += [text[copied:found], mark]
            copied = end
        found = text.find(name, end)
    return "".join([*pieces, text[copied:]])


def written(part, others):
    kind = part.lastgroup
    new = others.get((kind, part[kind]), part[kind])
    return {"column": f'"{new}"', "literal": f"'{new}'", "number": new}[kind]


def prepared(seed=1):
    """{name: records} of all that is written."""
    files = {split: [lower(record) for record in read(HERE / "data" / f"{split}.jsonl.gz")] for split in SPLITS}
    names = Names(files["train"], seed)
    return {**files, "adapt": [version for record in files["train"] for version in (record, renamed(record, names))]}


def read(path):
    with gzip.open(path, "rt") as lines:
        return [json.loads(line) for line in lines]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=pathlib.Path, default=HERE / "prepared")
    output = parser.parse_args().output
    output.mkdir(parents=True, exist_ok=True)
    for name, records in prepared().items():
        text = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)
        temporary = output / f"{name}.partial"
        temporary.write_bytes(gzip.compress(text.encode(), mtime=0))
        temporary.rename(output / f"{name}.jsonl.gz")
        print(f"{output / name}.jsonl.gz: {len(records)} questions")


if __name__ == "__main__":
    main()
