"""Writes data/ from the folder of Spider: `python3 prepare.py FOLDER`, with train_spider.json, dev.json and database/ in it.

Prompts are those of the CLLM paper's code (data/generate_trajectory.py of hao-ai-lab/Consistency_LLM): tables and columns as the database
has them, then the question.
"""

import contextlib
import functools
import gzip
import json
import pathlib
import sqlite3
import sys

PREFIX = "Could you translate the following question into SQL. Please only generate SQL, don't include explanation in the answer. "
PROMPT = "### Instruction:\n{instruction}\n### Response:\n"


@functools.cache
def described(database):
    """Every table of a sqlite file with its columns."""
    with contextlib.closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        columns = {table: [row[1] for row in connection.execute(f'PRAGMA table_info("{table}")')] for table in tables}
    return "The SQL database has " + "".join(f"table named {table} with columns {columns[table]}, " for table in tables)


def pair(record, databases):
    name = record["db_id"]
    instruction = PREFIX + described(databases / name / f"{name}.sqlite") + "Question: " + record["question"]
    return {"prompt": PROMPT.format(instruction=instruction.strip()), "completion": record["query"] + "\n"}


def main():
    source, data = pathlib.Path(sys.argv[1]), pathlib.Path(__file__).parent / "data"
    data.mkdir(exist_ok=True)
    for split, file in [("train", "train_spider.json"), ("dev", "dev.json")]:
        pairs = [pair(record, source / "database") for record in json.loads((source / file).read_text())]
        text = "".join(json.dumps(pair, ensure_ascii=False) + "\n" for pair in pairs)
        (data / f"{split}.jsonl.gz").write_bytes(gzip.compress(text.encode(), mtime=0))
        print(f"{split}: {len(pairs)} lines")


if __name__ == "__main__":
    main()
