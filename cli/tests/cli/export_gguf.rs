//! `cllm export-gguf`: a file that is a checkpoint again, or a sentence.

use std::path::Path;

use assert_cmd::Command;
use cllm_engine::Checkpoint;

use crate::bench::playground;

#[test]
fn what_is_exported_is_a_checkpoint_again() {
    let folder = playground();
    let [model, output] = ["model", "model.gguf"].map(|name| folder.path().join(name));
    let run = |model: &Path, dtype: &str| {
        let mut command = Command::cargo_bin("cllm").unwrap();
        command.args(["export-gguf", "--dtype", dtype, "--model"]).arg(model).arg("--output").arg(&output);
        command.output().unwrap()
    };
    for dtype in ["f16", "q8_0"] {
        let done = run(&model, dtype);
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        assert!(String::from_utf8_lossy(&done.stdout).contains("model.gguf is written"));
        let [original, exported] = [&model, &output].map(|path| Checkpoint::open(path).unwrap());
        assert_eq!(exported.config(), original.config());
    }
    let refused = run(&folder.path().join("prompts.jsonl"), "f32");
    assert_eq!(refused.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("instead of \"GGUF\""));
}
