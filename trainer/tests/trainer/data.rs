//! Data sets in every format that is read, and records that cannot be.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use cllm_engine::Checkpoint;
use cllm_trainer::data::{Example, Fields, RecordArguments, read};

use crate::support::{Workshop, fail, succeed, trainer};

/// The five questions that the golden files hold.
fn expected() -> Vec<(u32, Example)> {
    let example = |number| Example {
        prompt: format!("shops: name {number}?\n"),
        completion: format!("SELECT name FROM shops WHERE id = {number};"),
    };
    (0..5).map(|number| (number, example(number))).collect()
}

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/trainer/golden").join(name)
}

fn named(prompt: &str, completion: &str) -> RecordArguments {
    let fields =
        Fields { prompt_field: prompt.to_owned(), completion_field: completion.to_owned(), ..Fields::default() };
    RecordArguments { fields, max_bad_records: 0 }
}

#[test]
fn every_format_gives_the_same_examples() {
    let workshop = Workshop::new();
    workshop.init();
    let checkpoint = Checkpoint::open(&workshop.path("init")).unwrap();
    let lines: String = expected()
        .into_iter()
        .map(|(_, example)| {
            serde_json::json!({"question": example.prompt, "answer": example.completion}).to_string() + "\n\n"
        })
        .collect();
    let file = |name: &str| File::create(workshop.path(name)).unwrap();
    fs::write(workshop.path("lines.jsonl"), &lines).unwrap();
    let mut gzip = flate2::write::GzEncoder::new(file("lines.jsonl.gz"), flate2::Compression::default());
    gzip.write_all(lines.as_bytes()).unwrap();
    gzip.finish().unwrap();
    zstd::stream::copy_encode(lines.as_bytes(), file("lines.jsonl.zst"), 3).unwrap();
    let written = ["lines.jsonl", "lines.jsonl.gz", "lines.jsonl.zst"].map(|name| workshop.path(name));
    let compressions = ["none", "snappy", "gzip", "zstd", "lz4", "brotli"];
    let parquet = compressions.map(|compression| golden(&format!("pairs-{compression}.parquet")));
    for path in written.iter().chain(&parquet) {
        let found = read(path, checkpoint.tokenizer(), &named("question", "answer"), None).unwrap();
        assert_eq!(found, expected(), "{}", path.display());
        let first = read(path, checkpoint.tokenizer(), &named("question", "answer"), Some(3)).unwrap();
        assert_eq!(first, expected()[..3], "{}", path.display());
    }
    let chats = read(&golden("messages.parquet"), checkpoint.tokenizer(), &RecordArguments::default(), None).unwrap();
    assert_eq!(chats, expected());
}

#[test]
fn words_alone_have_the_same_tokens_after_a_space_and_after_a_quotation_mark() {
    let workshop = Workshop::new();
    let asked = [workshop.flag("config", "config.json"), workshop.flag("data", "data.jsonl")];
    let same = ["WithSpace", "Alone"].map(|words| {
        let output = workshop.flag("output", words);
        succeed(trainer("init").args(&asked).args([output, format!("--words={words}"), "--vocab-size=300".to_owned()]));
        let checkpoint = Checkpoint::open(&workshop.path(words)).unwrap();
        let tokens = |text: &str| checkpoint.tokenizer().encode(text).unwrap();
        for text in ["is  it 'name 7';\n", "«déjà»", " "] {
            assert_eq!(checkpoint.tokenizer().decode(&tokens(text)), text, "{words}");
        }
        // what is left of each without the space and the quotation mark
        tokens(" name")[1..] == tokens("'name")[1..]
    });
    assert_eq!(same, [false, true]);
}

#[test]
fn bad_records_are_named_and_counted_before_anything_begins() {
    let workshop = Workshop::new();
    workshop.init();
    let good = fs::read_to_string(workshop.path("data.jsonl")).unwrap();
    let bad = "{\"prompt\": \"q\", \"completion\": 7}\n{\"prompt\": \"\", \"completion\": \"a\"}\n";
    fs::write(workshop.path("data.jsonl"), good.clone() + bad).unwrap();
    let adapt = || workshop.adapt_command("target", "adapt", 2);
    for (allowed, says) in [
        (0, vec!["data.jsonl, line 41: `prompt` is a text and `completion` is a number", "--max-bad-records"]),
        (1, vec!["2 records", "the 1 that --max-bad-records", "line 42: the prompt is empty"]),
    ] {
        let said = fail(adapt().arg(format!("--max-bad-records={allowed}")), 2);
        assert!(says.iter().all(|part| said.contains(part)), "{said}");
        assert!(!workshop.path("target").exists());
    }
    let said = succeed(adapt().arg("--max-bad-records=2"));
    assert!(said.contains("2 records") && said.contains("are left out"), "{said}");
    // only the good ones were learnt from
    fs::write(workshop.path("data.jsonl"), good).unwrap();
    succeed(&mut workshop.adapt_command("good-only", "adapt-good", 2));
    let [left_out, without] =
        ["target", "good-only"].map(|name| fs::read(workshop.path(name).join("model.safetensors")).unwrap());
    assert!(left_out == without, "other weights");
}

#[test]
fn a_damaged_file_is_an_error_with_its_place() {
    let workshop = Workshop::new();
    workshop.init();
    let parquet = fs::read(golden("pairs-snappy.parquet")).unwrap();
    let mut zstandard = Vec::new();
    let lines = fs::read(workshop.path("data.jsonl")).unwrap();
    zstd::stream::copy_encode(lines.as_slice(), &mut zstandard, 3).unwrap();
    for (name, content, says) in [
        ("half.parquet", &parquet[..parquet.len() / 2], "cannot be read as Parquet"),
        ("half.jsonl.zst", &zstandard[..zstandard.len() / 2], "the file is damaged here"),
        ("text.parquet", b"not a table".as_slice(), "cannot be read as Parquet"),
    ] {
        fs::write(workshop.path(name), content).unwrap();
        let mut adapt = workshop.adapt_command("target", "adapt", 2);
        let said = fail(adapt.arg(workshop.flag("dataset", name)), 2);
        assert!(said.contains(name) && said.contains(says), "{name}: {said}");
    }
}

#[test]
fn inspect_shows_a_data_set_and_what_became_of_its_blocks() {
    let workshop = Workshop::with_trajectories();
    let inspect = |colors: bool| {
        let mut command = trainer("inspect");
        command.args([workshop.flag("model", "target"), workshop.flag("dataset", "data.jsonl")]);
        command.args([workshop.flag("held-out", "data.jsonl"), workshop.flag("trajectories", "trajectories")]);
        command.args(["--examples=2", "--blocks=1"]).env_remove("CLICOLOR_FORCE").env_remove("NO_COLOR");
        if colors {
            command.env("CLICOLOR_FORCE", "1");
        }
        let output = command.output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let plain = inspect(false);
    for part in [
        "examples             40 with",
        "repeated prompts     0",
        "40 of 40 prompts",
        "0 exceed the model's context of 96 tokens",
        "trajectories",
        "(2 shards)",
        "tokens per forward",
        "  0:  ",
        " right, ",
    ] {
        assert!(plain.contains(part), "{part} is missing:\n{plain}");
    }
    assert_eq!(plain.matches("\nrecord ").count(), 2);
    assert!(!plain.contains('\x1b'), "no colors in a pipe");
    assert!(inspect(true).contains("\x1b[32m"), "a right token is green");
}
