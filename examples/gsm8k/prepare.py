"""Writes data/ from the files of openai/grade-school-math: `python3 prepare.py FOLDER`, with train.jsonl(.gz) and test.jsonl(.gz) in it.

Prompts are those of the CLLM paper's code (data/generate_trajectory.py of hao-ai-lab/Consistency_LLM). GSM8K has no dev split: the last
500 training questions are one here. The same input gives the same bytes.
"""

import gzip
import json
import pathlib
import sys

PROMPT = "Question:\n{question}\nAnswer:\nLet's think step by step.\n"
DEV = 500


def read(folder, split):
    plain = folder / f"{split}.jsonl"
    text = plain.read_text() if plain.exists() else gzip.decompress((folder / f"{split}.jsonl.gz").read_bytes()).decode()
    return [json.loads(line) for line in text.splitlines() if line.strip()]


def write(path, records):
    pairs = [{"prompt": PROMPT.format(question=record["question"]), "completion": record["answer"]} for record in records]
    text = "".join(json.dumps(pair, ensure_ascii=False) + "\n" for pair in pairs)
    path.write_bytes(gzip.compress(text.encode(), mtime=0))
    print(f"{path}: {len(pairs)} lines")


def main():
    source, data = pathlib.Path(sys.argv[1]), pathlib.Path(__file__).parent / "data"
    train = read(source, "train")
    for name, records in [("train", train[:-DEV]), ("dev", train[-DEV:]), ("test", read(source, "test"))]:
        write(data / f"{name}.jsonl.gz", records)


if __name__ == "__main__":
    main()
