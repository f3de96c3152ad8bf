//! `cllm up` as a black box: stage order, resuming, refusals, signals. The binaries are fakes, the processes are real.

use std::collections::BTreeSet;

use crate::support::{DIGEST, Playground};
use nix::sys::signal::Signal;
use serde_json::Value;

const STAGES: [&str; 4] = ["adapt", "collect", "train", "evaluate"];

#[test]
#[ignore = "not a test: the server that the fake cllm-server runs"]
fn fake_server() {
    crate::support::serve();
}

/// Stages in the order of their first start, indexes left out.
fn order(calls: &[String]) -> Vec<&str> {
    let mut order: Vec<&str> = calls.iter().map(|call| call.split(' ').next().unwrap()).collect();
    order.dedup();
    order
}

fn succeed(playground: &Playground) {
    let status = playground.up(&["--exit-when-ready"]).wait();
    assert!(status.success(), "{status}\n{}\n{}", playground.read("stdout"), playground.read("stderr"));
}

#[test]
fn all_stages_run_in_order_then_the_model_is_served() {
    let playground = Playground::new();
    let status = playground.up(&["--exit-when-ready"]).wait();
    let (stdout, stderr) = (playground.read("stdout"), playground.read("stderr"));
    assert!(status.success(), "{stdout}{stderr}");
    assert_eq!(order(&playground.calls()), ["adapt", "collect", "train", "evaluate", "serve"]);
    let shards: BTreeSet<String> = playground.calls().into_iter().filter(|call| call.starts_with("collect")).collect();
    assert_eq!(shards, ["collect 0", "collect 1", "collect 2"].map(str::to_owned).into());
    for expected in [
        "training/shop: Succeeded",
        "model/shop: Ready",
        "target autoregressive",
        "target Jacobi with lookup (n = 8)",
        "CLLM Jacobi (n = 8)",
        "1.85 × the target autoregressively",
        "CllmModel shop answers at http://127.0.0.1:",
        "\"model\": \"shop-sql\"",
    ] {
        assert!(stdout.contains(expected), "no '{expected}' in:\n{stdout}");
    }
    let report = stdout.lines().find_map(|line| line.strip_prefix("report: ")).unwrap();
    assert!(report.ends_with(&format!("models/shop/{DIGEST}/report.json")) && std::path::Path::new(report).exists());
    playground.wait_for_no_children();
}

#[test]
fn json_lines_are_the_statuses_of_the_resources() {
    let playground = Playground::new();
    assert!(playground.up(&["--exit-when-ready", "--output", "json"]).wait().success());
    let lines: Vec<Value> = playground.read("stdout").lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let last = |kind: &str| lines.iter().rfind(|line| line["kind"] == kind).unwrap();
    assert_eq!(last("CllmTraining")["status"]["stage"], "Succeeded");
    assert_eq!(last("CllmTraining")["status"]["speedup"]["overTarget"], "1.85");
    assert_eq!(last("CllmTraining")["status"]["output"]["digest"], format!("sha256:{DIGEST}"));
    assert_eq!(last("CllmModel")["status"]["readyReplicas"], 1);
    assert!(last("CllmModel")["status"]["url"].as_str().unwrap().starts_with("http://127.0.0.1:"));
    assert!(lines.iter().all(|line| line["metadata"]["name"] == "shop" && line["apiVersion"] == "cllm.dev/v1alpha1"));
    let repeated = lines.windows(2).filter(|pair| pair[0] == pair[1]).count();
    assert_eq!(repeated, 0, "a line is only printed for a change");
}

#[test]
fn a_kill_in_any_stage_leaves_no_child_and_the_next_run_goes_on() {
    let playground = Playground::new();
    for (index, stage) in STAGES.iter().enumerate() {
        playground.write(&format!("fake/block-{stage}"), "");
        let up = playground.up(&["--exit-when-ready"]);
        // two indexes at a time; all that will start has started
        playground.wait_for_calls(stage, if *stage == "collect" { 2 } else { 1 });
        up.signal(Signal::SIGKILL);
        up.wait();
        playground.wait_for_no_children();
        assert_eq!(order(&playground.calls()).last(), Some(stage));
        playground.remove(&format!("fake/block-{stage}"));
        let finished = &STAGES[..index];
        assert!(finished.iter().all(|stage| playground.read("work/state.json").contains(&format!("shop-{stage}-"))));
    }
    let status = playground.up(&["--exit-when-ready"]).wait();
    assert!(status.success(), "{}", playground.read("stderr"));
    let calls = playground.calls();
    let count = |stage: &str| calls.iter().filter(|call| *call == stage).count();
    // killed once, then run to its end; nothing that had ended ran again
    assert_eq!([count("adapt"), count("train"), count("evaluate")], [2, 2, 2], "{calls:?}");
    assert_eq!([count("collect 0"), count("collect 1"), count("collect 2")], [2, 2, 1], "{calls:?}");
}

#[test]
fn a_second_run_finds_everything_done() {
    let playground = Playground::new();
    succeed(&playground);
    let before = playground.calls();
    succeed(&playground);
    assert_eq!(playground.calls()[before.len()..], ["serve".to_owned()]);
    assert!(playground.read("stdout").contains("report: "), "the table is told again");
}

#[test]
fn another_spec_under_the_same_name_runs_the_stages_that_it_changes() {
    let playground = Playground::new();
    succeed(&playground);
    let before = playground.calls().len();
    playground.edit("prompts: 10", "prompts: 20");
    succeed(&playground);
    assert_eq!(playground.calls()[before..], ["evaluate".to_owned(), "serve".to_owned()]);
}

#[test]
fn a_second_run_on_the_same_folder_is_refused_with_the_pid_of_the_first() {
    let playground = Playground::new();
    playground.write("fake/block-adapt", "");
    let first = playground.up(&[]);
    playground.wait_for_calls("adapt", 1);
    let status = playground.up(&[]).wait();
    let stderr = playground.read("stderr");
    assert_eq!(status.code(), Some(1));
    assert!(stderr.contains(&format!("another `cllm up` (process {}) works in", first.id())), "{stderr}");
    assert_eq!(playground.calls(), ["adapt"]);
}

#[test]
fn a_failing_stage_is_told_with_its_sentence_and_its_log() {
    let playground = Playground::new();
    playground.write("fake/fail-train", "2");
    let status = playground.up(&[]).wait();
    let stderr = playground.read("stderr");
    assert_eq!(status.code(), Some(1));
    for expected in [
        "CllmTraining shop: Training failed: The disk is full: free some space.",
        "log: ",
        "| working on train",
        "| the disk of train is full",
    ] {
        assert!(stderr.contains(expected), "no '{expected}' in:\n{stderr}");
    }
    assert_eq!(playground.calls().iter().filter(|call| *call == "train").count(), 1, "exit code 2 is not retried");
    // once the cause is gone the next run goes on from there
    playground.remove("fake/fail-train");
    succeed(&playground);
    assert_eq!(order(&playground.calls()), ["adapt", "collect", "train", "evaluate", "serve"]);
    assert_eq!(playground.calls().iter().filter(|call| *call == "train").count(), 2);
}

#[test]
fn other_failures_are_retried_up_to_the_limit() {
    let playground = Playground::new();
    playground.write("fake/fail-adapt", "1");
    playground.write("fake/silent", "");
    let status = playground.up(&[]).wait();
    let stderr = playground.read("stderr");
    assert_eq!(status.code(), Some(1));
    assert_eq!(playground.calls(), ["adapt", "adapt"], "backoffLimit is 1");
    assert!(stderr.contains("exit code 1"), "{stderr}");
}

#[test]
fn a_missed_gate_fails_with_figures_and_bar_and_never_serves() {
    let playground = Playground::new();
    playground.write_messages("1.10", "0.5");
    for _ in 0..2 {
        let status = playground.up(&["--exit-when-ready"]).wait();
        let (stdout, stderr) = (playground.read("stdout"), playground.read("stderr"));
        assert_eq!(status.code(), Some(1));
        assert!(stderr.contains("The speed-up over the target is 1.10") && stderr.contains("at least 1.3"), "{stderr}");
        assert!(stdout.contains("report: "), "{stdout}");
    }
    assert!(!playground.calls().contains(&"serve".to_owned()));
    assert_eq!(playground.calls().iter().filter(|call| *call == "evaluate").count(), 1);
    // a lower bar is another spec
    playground.edit("minSpeedup: \"1.3\"", "minSpeedup: \"1.0\"");
    succeed(&playground);
}

#[test]
fn several_workers_are_one_process_here_and_that_is_said() {
    let playground = Playground::new();
    playground.edit("evaluation: {", "training: { workers: 3 }\n  evaluation: {");
    succeed(&playground);
    let stdout = playground.read("stdout");
    assert!(
        stdout.contains("CllmTraining shop asks for 3 workers") && stdout.contains("one process trains"),
        "{stdout}"
    );
    let trained: Vec<String> = playground.calls().into_iter().filter(|call| call.starts_with("train")).collect();
    assert_eq!(trained, ["train"]);
}

#[test]
fn a_suspended_training_starts_nothing() {
    let playground = Playground::new();
    playground.edit("backoffLimit: 1", "suspend: true");
    let status = playground.up(&[]).wait();
    assert_eq!(status.code(), Some(1));
    assert!(playground.read("stderr").contains("CllmTraining shop is suspended"), "{}", playground.read("stderr"));
    assert!(playground.read("stdout").contains("training/shop: Suspended"));
    assert!(playground.calls().is_empty());
}

#[test]
fn ctrl_c_lets_the_stage_write_its_checkpoint_and_the_next_run_goes_on() {
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let playground = Playground::new();
        playground.write("fake/block-train", "");
        let up = playground.up(&["--exit-when-ready"]);
        playground.wait_for_calls("train", 1);
        up.signal(signal);
        assert_eq!(up.wait().code(), Some(130));
        assert_eq!(playground.read("fake/interrupted"), "train\n");
        playground.wait_for_no_children();
        playground.remove("fake/block-train");
        succeed(&playground);
        assert_eq!(playground.calls().iter().filter(|call| *call == "train").count(), 2);
    }
}

#[test]
fn a_model_is_served_until_a_signal() {
    let playground = Playground::new();
    let up = playground.up(&[]);
    playground.wait_for_output("answers at http://127.0.0.1:");
    up.signal(Signal::SIGINT);
    assert_eq!(up.wait().code(), Some(0));
    playground.wait_for_no_children();
}

#[test]
fn a_model_is_not_ready_before_its_probe_says_so() {
    let playground = Playground::new();
    playground.write("fake/unready", "");
    let up = playground.up(&["--exit-when-ready"]);
    playground.wait_for_output("model/shop: Loading");
    assert!(!playground.read("stdout").contains("answers at"));
    playground.remove("fake/unready");
    assert!(up.wait().success());
    assert!(playground.read("stdout").contains("answers at"));
}

#[test]
fn a_server_that_cannot_load_is_told_with_its_log() {
    let playground = Playground::new();
    playground.write("fake/fail-serve", "1");
    let status = playground.up(&[]).wait();
    let stderr = playground.read("stderr");
    assert_eq!(status.code(), Some(1));
    assert!(stderr.contains("the server of shop ended before it was ready: exit code 1"), "{stderr}");
    assert!(stderr.contains("| cannot load"), "{stderr}");
}

#[test]
fn what_is_missing_is_named_before_anything_starts() {
    type Spoil<'a> = &'a dyn Fn(&Playground);
    let cases: [(Spoil<'_>, &str, i32); 4] = [
        (&|playground| playground.remove("data/test.jsonl"), "spec.dataset.testUri: pvc://data/test.jsonl is ", 2),
        (
            &|playground| playground.edit("data=./data", "data"),
            "metadata.annotations.cllm.dev/local-claims has the entry 'data'",
            2,
        ),
        (&|playground| playground.edit("shards: 3", "shard: 3"), "unknown field spec.trajectories.shard", 2),
        (&|playground| drop(playground.write("work", "a file")), "cannot use ", 1),
    ];
    for (spoil, expected, code) in cases {
        let playground = Playground::new();
        spoil(&playground);
        let status = playground.up(&[]).wait();
        let stderr = playground.read("stderr");
        assert_eq!(status.code(), Some(code), "{stderr}");
        assert!(stderr.contains(expected), "no '{expected}' in: {stderr}");
        assert!(playground.calls().is_empty());
    }
}

#[test]
fn claims_of_the_command_line_win() {
    let playground = Playground::new();
    std::fs::rename(playground.path("data"), playground.path("elsewhere")).unwrap();
    let (data, models) = (playground.path("elsewhere"), playground.path("models"));
    let claims = [format!("data={}", data.display()), format!("models={}", models.display())];
    let status = playground.up(&["--exit-when-ready", "--claim", &claims[0], "--claim", &claims[1]]).wait();
    assert!(status.success(), "{}", playground.read("stderr"));
    assert!(models.join("shop").join(DIGEST).join("report.json").exists());
}

#[test]
fn a_downloaded_model_gets_a_cache_in_the_workdir_and_the_folder_of_its_secret() {
    let playground = Playground::new();
    playground.write(
        "shop.yaml",
        "apiVersion: cllm.dev/v1alpha1\nkind: CllmModel\nmetadata: { name: shop }\n\
         spec: { model: { uri: hf://org/shop, secretRef: { name: hub } } }\n",
    );
    assert!(!playground.up(&["--exit-when-ready"]).wait().success());
    let stderr = playground.read("stderr");
    assert!(stderr.contains("the Secret 'hub'") && stderr.contains("--secret hub=DIR"), "{stderr}");
    let named = format!("hub={}", playground.path("hub").display());
    assert!(!playground.up(&["--exit-when-ready", "--secret", &named]).wait().success());
    assert!(playground.read("stderr").contains("hub stands for a Secret or ConfigMap, but does not exist"));
    std::fs::create_dir(playground.path("hub")).unwrap();
    let status = playground.up(&["--exit-when-ready", "--secret", &named]).wait();
    assert!(status.success(), "{}", playground.read("stderr"));
    let arguments = playground.read("fake/arguments");
    let folder = |name: &str| playground.path(name).canonicalize().unwrap().display().to_string();
    for expected in [
        "--model=hf://org/shop".to_owned(),
        format!("--credentials={}", folder("hub")),
        format!("--cache={}/", folder("work")),
    ] {
        assert!(arguments.lines().any(|line| line.starts_with(&expected)), "{expected} in {arguments}");
    }
}

#[test]
fn a_port_that_is_taken_is_refused_at_once() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let playground = Playground::new();
    let status = playground.up(&["--http-port", &port]).wait();
    assert_eq!(status.code(), Some(1));
    assert!(playground.read("stderr").contains(&format!("port {port} of 127.0.0.1 is taken")));
    assert!(playground.calls().is_empty());
}

#[test]
fn a_result_that_someone_removed_is_named() {
    let playground = Playground::new();
    succeed(&playground);
    std::fs::remove_dir_all(playground.path("work/claims/models")).unwrap();
    assert_eq!(playground.up(&["--exit-when-ready"]).wait().code(), Some(1));
    assert!(playground.read("stderr").contains("its result is not at "), "{}", playground.read("stderr"));
    playground.remove("work/state.json");
    succeed(&playground);
}
