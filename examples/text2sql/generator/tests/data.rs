//! The data set through its public doors: every intent executes, splits are disjoint, the same seed gives the same bytes.
#![expect(clippy::unwrap_used, reason = "helpers of tests, where a panic is the report")]

use std::collections::{HashMap, HashSet};
use std::process::Command;

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rusqlite::Connection;
use text2sql_generator::database::Shop;
use text2sql_generator::files::read_lines;
use text2sql_generator::intents::{Intent, all};
use text2sql_generator::pairs::{Pair, Sampler};
use text2sql_generator::schema::TABLES;
use text2sql_generator::split::{Splits, draw, split_of};
use text2sql_generator::verify::verify;

const SIZES: Splits<usize> = Splits { train: 6000, dev: 300, test: 600 };

fn database(shop: &Shop) -> Connection {
    let mut connection = Connection::open_in_memory().unwrap();
    shop.insert(&mut connection).unwrap();
    connection
}

/// Sixty pairs of every intent.
fn of_every_intent(shop: &Shop) -> Vec<Pair> {
    let sampler = Sampler::new(shop).unwrap();
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    let indices = (0..sampler.len()).flat_map(|index| [index; 60]);
    indices.map(|index| sampler.sample_from(index, &mut rng).unwrap()).collect()
}

fn slots(template: &str) -> HashSet<&str> {
    template.split('{').skip(1).map(|part| part.split('}').next().unwrap()).collect()
}

#[test]
fn every_intent_has_a_name_of_its_own_and_phrasings_that_say_what_its_query_needs() {
    let intents = all();
    assert!(intents.len() >= 60);
    assert_eq!(intents.iter().map(|intent| intent.name).collect::<HashSet<_>>().len(), intents.len());
    for intent in intents {
        assert!(intent.questions.len() >= 3, "{}", intent.name);
        for question in intent.questions {
            assert_eq!(slots(question), slots(intent.sql), "{}: {question}", intent.name);
            for (open, close) in [('(', ')'), ('[', ']'), ('<', '>')] {
                assert_eq!(question.matches(open).count(), question.matches(close).count(), "{question}");
            }
        }
    }
}

#[test]
fn every_intent_executes_and_mostly_finds_something() {
    let shop = Shop::new(1);
    let connection = database(&shop);
    let pairs = of_every_intent(&shop);
    let outcome = verify(&connection, &pairs, usize::MAX).unwrap();
    assert_eq!(outcome.compiled, outcome.executed);
    assert!(outcome.empty * 100 < outcome.executed * 15, "{outcome:?}");
    for intent in all() {
        let of_intent: Vec<Pair> = pairs.iter().filter(|pair| pair.intent == intent.name).cloned().collect();
        let outcome = verify(&connection, &of_intent, usize::MAX).unwrap();
        assert!(outcome.empty * 2 < outcome.executed, "{}: {outcome:?}", intent.name);
    }
}

#[test]
fn questions_are_sentences_and_queries_are_in_one_style() {
    for Pair { question, sql, .. } in of_every_intent(&Shop::new(1)) {
        assert!(question.starts_with(|first: char| first.is_ascii_uppercase()), "{question}");
        assert!(question.ends_with(['?', '.']), "{question}");
        assert!(sql.starts_with("SELECT ") && sql.ends_with(';') && sql.matches(';').count() == 1, "{sql}");
        for text in [&question, &sql] {
            assert!(text.is_ascii() && !text.contains(['{', '}', '[', ']', '|', '\n']), "{text}");
            assert!(!text.contains("  ") && !text.contains(" ,"), "{text}");
        }
        assert!(!question.contains(['(', ')', '<', '>']), "{question}");
        assert!(sql.len() <= 330, "{} characters: {sql}", sql.len());
    }
}

#[test]
fn a_question_has_one_query_and_the_splits_share_neither() {
    let shop = Shop::new(1);
    let splits = draw(&Sampler::new(&shop).unwrap(), 1, SIZES).unwrap();
    let (mut questions, mut queries) = (HashSet::new(), HashMap::new());
    for ((name, pairs), (_, size)) in splits.named().into_iter().zip(SIZES.named()) {
        assert_eq!(pairs.len(), *size, "{name}");
        for pair in pairs {
            assert!(questions.insert(&pair.question), "twice: {}", pair.question);
            assert_eq!(*queries.entry(&pair.sql).or_insert(name), name, "{}", pair.sql);
            assert_eq!(split_of(&pair.sql, SIZES), name);
        }
    }
}

/// What drawing ten test pairs from these intents says.
fn refusal(intents: Vec<Intent>) -> String {
    let shop = Shop::new(1);
    let sizes = Splits { train: 0, dev: 0, test: 10 };
    let drawn = Sampler::over(&shop, intents).and_then(|sampler| draw(&sampler, 1, sizes));
    format!("{:#}", drawn.unwrap_err())
}

#[test]
fn intents_that_cannot_give_a_data_set_are_refused_in_words() {
    let few = Intent { name: "few", sql: "SELECT 1", questions: &["what is one"] };
    let other = Intent { name: "other", sql: "SELECT 2", questions: &["what is one"] };
    let unknown = Intent { name: "unknown", sql: "SELECT {nothing}", questions: &["what is {nothing}"] };
    let join = Intent { name: "join", sql: "SELECT 1 FROM orders JOIN orders.suppliers", questions: &["what"] };
    let cases = [
        (vec![few], "do not give 10 distinct questions"),
        (vec![few, other], "reword the intent"),
        (vec![unknown], "in the intent \"unknown\": no slot is called \"nothing\""),
        (vec![join], "in the intent \"join\": the template joins \"orders.suppliers\""),
    ];
    for (intents, words) in cases {
        let message = refusal(intents);
        assert!(message.contains(words), "{message}");
    }
}

#[test]
fn the_database_has_some_thousand_rows_and_its_foreign_keys_hold() {
    let connection = database(&Shop::new(1));
    let count = |table: &str| -> i64 {
        connection.query_row(&format!("SELECT COUNT(*) FROM {table}"), [], |row| row.get(0)).unwrap()
    };
    let rows: i64 = TABLES.map(count).iter().sum();
    assert!((5_000..15_000).contains(&rows), "{rows} rows");
    assert!(TABLES.iter().all(|table| count(table) >= 10));
    let broken = connection.prepare("PRAGMA foreign_key_check").unwrap().exists([]).unwrap();
    assert!(!broken);
}

#[test]
fn the_program_writes_the_same_bytes_for_the_same_seed_and_others_for_another() {
    let folder = tempfile::tempdir().unwrap();
    let make = |name: &str, seed: &str| {
        let output = folder.path().join(name);
        let sizes = ["--train", "300", "--dev", "20", "--test", "40"];
        let run = Command::new(env!("CARGO_BIN_EXE_text2sql-data"))
            .arg("--output")
            .arg(&output)
            .args(["--seed", seed])
            .args(sizes)
            .output()
            .unwrap();
        assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
        assert!(String::from_utf8_lossy(&run.stdout).contains("train: 300 pairs"));
        assert_eq!(read_lines(&output.join("test.jsonl.gz")).unwrap().len(), 40);
        ["shop.sqlite", "schema.sql", "train.jsonl.gz", "dev.jsonl.gz", "test.jsonl.gz"]
            .map(|file| std::fs::read(output.join(file)).unwrap())
    };
    let [first, again, other] = [make("first", "1"), make("again", "1"), make("other", "2")];
    assert_eq!(first, again);
    assert!(first[0] != other[0] && first[2] != other[2]);
}
