//! How a result is stored: as its target, so that neither side of a measurement has fewer bytes to read.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::support::{Workshop, fail, succeed, trainer};

const STEPS: u32 = 4;

fn read(file: &Path) -> Value {
    serde_json::from_slice(&fs::read(file).unwrap()).unwrap()
}

/// Conditions of a measurement of `cllm` against `target`, and the page about it.
fn evaluated(workshop: &Workshop, cllm: &str) -> (Value, String) {
    let (result, mut command) = (format!("{cllm}-result"), trainer("evaluate"));
    command.args([workshop.flag("target", "target"), workshop.flag("model", cllm)]);
    command.args([workshop.flag("dataset", "data.jsonl"), workshop.flag("output", &result)]);
    succeed(command.args(["--prompts=2", "--block-size=4", "--max-new-tokens=8", "--threads=1"]));
    let mut folders = fs::read_dir(workshop.path(&result)).unwrap().map(|entry| entry.unwrap().path());
    let folder = folders.find(|path| path.is_dir()).unwrap();
    let page = fs::read_to_string(folder.join("report.html")).unwrap();
    (read(&folder.join("report.json"))["conditions"].clone(), page)
}

#[test]
fn a_result_is_stored_as_its_target_unless_told_otherwise() {
    let workshop = Workshop::new();
    workshop.init();
    succeed(&mut workshop.adapt_command("wide", "wide-state", STEPS));
    succeed(workshop.adapt_command("target", "target-state", 120).arg("--dtype=bf16"));
    succeed(&mut workshop.collect_command());
    succeed(&mut workshop.train_command("alike", "alike-state", STEPS));
    succeed(workshop.train_command("unlike", "unlike-state", STEPS).arg("--dtype=f32"));
    let stored = |name: &str| read(&workshop.path(name).join("config.json"))["torch_dtype"].clone();
    assert_eq!(["init", "wide", "target"].map(stored), ["float32", "float32", "bfloat16"]);
    assert_eq!(["alike", "unlike"].map(stored), ["bfloat16", "float32"]);

    let refused = fail(workshop.train_command("alike", "alike-state", STEPS).arg("--dtype=f32"), 2);
    assert!(refused.contains("dtype"), "{refused}");

    let (conditions, page) = evaluated(&workshop, "alike");
    assert_eq!((&conditions["dtype"], conditions.get("targetDtype")), (&Value::from("bf16"), None));
    assert!(!page.contains("(the target "), "{page}");
    let (conditions, page) = evaluated(&workshop, "unlike");
    assert_eq!((&conditions["dtype"], &conditions["targetDtype"]), (&Value::from("f32"), &Value::from("bf16")));
    assert!(page.contains("f32 (the target bf16)"), "{page}");
}
