import re
import unittest

import prepare


def record(columns, question, query):
    return {"prompt": f"CREATE TABLE t ({columns})\n-- {question}\n", "completion": query}


PLAYED = record('"notes", "opponent", "year_played"', "Which Opponent was there in year played 1984 with It's Over?",
                "SELECT \"opponent\" FROM t WHERE \"year_played\" > 1984 AND \"notes\" = 'It''s OVER';")


class Prepare(unittest.TestCase):
    def renamed(self, seed):
        lower = prepare.lower(PLAYED)
        return prepare.renamed(lower, prepare.Names([lower], seed))

    def test_only_what_was_asked_and_literals_become_lower_case(self):
        self.assertEqual(prepare.lower(PLAYED), record(
            '"notes", "opponent", "year_played"', "which opponent was there in year played 1984 with it's over?",
            "SELECT \"opponent\" FROM t WHERE \"year_played\" > 1984 AND \"notes\" = 'it''s over';"))

    def test_other_names_stand_in_question_table_and_query_alike(self):
        for seed in range(50):
            found = self.renamed(seed)
            table, question = found["prompt"].split("\n", 1)
            selected, compared, number, noted, literal = re.fullmatch(
                r"SELECT \"(.+)\" FROM t WHERE \"(.+)\" > (\d{4}) AND \"(.+)\" = '(.+)';", found["completion"]).groups()
            said = literal.replace("''", "'")
            self.assertEqual(table, f'CREATE TABLE t ("{noted}", "{selected}", "{compared}")')
            self.assertEqual(question, f"-- which {selected.replace('_', ' ')} was there in {compared.replace('_', ' ')} {number} with {said}?\n")
            self.assertNotEqual((literal, number), ("it''s over", "1984"))
            self.assertEqual(noted, "notes", "the question does not name it")

    def test_the_same_seed_gives_the_same_names_and_others_differ(self):
        self.assertEqual(self.renamed(1), self.renamed(1))
        self.assertGreater(len({self.renamed(seed)["completion"] for seed in range(20)}), 15)

    def test_a_name_that_the_question_does_not_have_stays(self):
        asked = record('"a", "b"', "what else?", "SELECT \"a\" FROM t WHERE \"b\" = 'nothing';")
        self.assertEqual(prepare.renamed(asked, prepare.Names([PLAYED], 1)), asked)

    def test_every_question_has_a_twin_and_no_split_lost_any(self):
        files = prepare.prepared()
        self.assertEqual({name: len(records) for name, records in files.items()}, {"train": 52831, "dev": 7967, "test": 14938, "adapt": 2 * 52831})
        self.assertEqual(files["adapt"][::2], files["train"])
        differ = sum(one["prompt"] != other["prompt"] for one, other in zip(files["adapt"][::2], files["adapt"][1::2]))
        self.assertGreater(differ / 52831, 0.95)


if __name__ == "__main__":
    unittest.main()
