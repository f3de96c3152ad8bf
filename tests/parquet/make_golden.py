"""The same five questions as pairs and as messages, in every compression that hubs use: one row group or several, with dictionaries or without."""

import sys
from pathlib import Path

import pyarrow
import pyarrow.parquet

QUESTIONS = [(f"shops: name {i}?\n", f"SELECT name FROM shops WHERE id = {i};") for i in range(5)]


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    pairs = pyarrow.table({
        "id": pyarrow.array(range(5), pyarrow.int64()),
        "question": [question for question, _ in QUESTIONS],
        "answer": [answer for _, answer in QUESTIONS],
    })
    for compression in ["none", "snappy", "gzip", "zstd", "lz4", "brotli"]:
        path = folder / f"pairs-{compression}.parquet"
        pyarrow.parquet.write_table(pairs, path, compression=compression, row_group_size=2, use_dictionary=compression != "none")
    turns = [
        [{"role": "user", "content": question.rstrip("\n")}, {"role": "assistant", "content": answer}] for question, answer in QUESTIONS
    ]
    pyarrow.parquet.write_table(pyarrow.table({"messages": turns}), folder / "messages.parquet", compression="snappy")


main(Path(sys.argv[1]))
