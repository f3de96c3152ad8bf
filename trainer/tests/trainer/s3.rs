//! Stages whose model and data come from a real S3 server, and whose result goes there.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use cllm_crds::status_page::TerminationMessage;

use crate::support::{Workshop, digest, fail, succeed, trainer};

/// An S3 server over a folder: its folders are the buckets, their files the objects.
struct Store {
    child: Child,
    endpoint: String,
    folder: tempfile::TempDir,
}

impl Drop for Store {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Store {
    fn start() -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/cluster/build.sh");
        let built = Command::new(script).arg("storage").stderr(Stdio::inherit()).output().unwrap();
        assert!(built.status.success(), "the S3 server could not be built");
        let program = PathBuf::from(String::from_utf8(built.stdout).unwrap().trim_end()).join("versitygw");
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("bucket")).unwrap();
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let address = format!("127.0.0.1:{port}");
        let mut command = Command::new(program);
        command.args(["--port", &address, "--access", "key", "--secret", "hidden", "posix"]).arg(folder.path());
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let store = Self { child, endpoint: format!("http://{address}"), folder };
        let mut tries = 0;
        while std::net::TcpStream::connect(&address).is_err() {
            tries += 1;
            assert!(tries < 1200, "the S3 server never listened");
            std::thread::sleep(Duration::from_millis(25));
        }
        store
    }

    fn path(&self, key: &str) -> PathBuf {
        self.folder.path().join("bucket").join(key)
    }

    fn copy(&self, from: &Path, key: &str) {
        fs::create_dir_all(self.path(key)).unwrap();
        for entry in fs::read_dir(from).unwrap() {
            let path = entry.unwrap().path();
            fs::copy(&path, self.path(key).join(path.file_name().unwrap())).unwrap();
        }
    }
}

/// The flags of one place.
fn access(store: &Store, keys: &Path, prefix: &str) -> [String; 2] {
    [format!("--{prefix}endpoint={}", store.endpoint), format!("--{prefix}credentials={}", keys.display())]
}

fn keys(workshop: &Workshop) -> PathBuf {
    let folder = workshop.path("keys");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("accessKeyId"), "key").unwrap();
    fs::write(folder.join("secretAccessKey"), "hidden").unwrap();
    folder
}

#[test]
fn from_s3_to_s3() {
    let (workshop, store) = (Workshop::new(), Store::start());
    let keys = keys(&workshop);
    workshop.init();
    store.copy(&workshop.path("init"), "models/init");
    let lines = fs::read_to_string(workshop.path("data.jsonl")).unwrap();
    let (first, second) = lines.split_at(lines[..lines.len() / 2].rfind('\n').unwrap() + 1);
    fs::create_dir_all(store.path("data")).unwrap();
    fs::write(store.path("data/a.jsonl"), first).unwrap();
    fs::write(store.path("data/b.jsonl"), second).unwrap();
    succeed(&mut workshop.adapt_command("target", "adapt", 3));

    let mut adapt = workshop.adapt_command("remote-target", "remote-adapt", 3);
    adapt.args(["--model=s3://bucket/models/init", "--dataset=s3://bucket/data/*.jsonl"]);
    adapt.arg(workshop.flag("cache", "cache")).args(access(&store, &keys, "")).args(access(&store, &keys, "dataset-"));
    succeed(&mut adapt);
    let (local, remote) = (workshop.path("target"), workshop.path("remote-target"));
    assert_eq!(digest(&remote), digest(&local), "the place of model and data decides over nothing");

    let evaluate = || {
        let mut evaluate = trainer("evaluate");
        evaluate.args(["--target=s3://bucket/models/init".to_owned(), workshop.flag("model", "target")]);
        evaluate.args([workshop.flag("dataset", "data.jsonl"), workshop.flag("cache", "cache")]);
        evaluate.args(["--output=s3://bucket/results", "--output-uri=s3://bucket/results"]);
        evaluate.args(access(&store, &keys, "")).args(access(&store, &keys, "output-"));
        evaluate.args(["--prompts=4", "--block-size=4", "--max-new-tokens=8", "--threads=1"]);
        let said = succeed(evaluate.arg(workshop.flag("termination-message", "message")));
        let words = fs::read_to_string(workshop.path("message")).unwrap();
        (said, serde_json::from_str::<TerminationMessage>(&words).unwrap())
    };
    let (_, words) = evaluate();
    let output = words.output.clone().unwrap();
    let name = output.digest.trim_start_matches("sha256:").to_owned();
    assert_eq!(output.uri, format!("s3://bucket/results/{name}"));
    let result = store.path("results").join(&name);
    assert_eq!(digest(&result), digest(&local));
    let report = fs::read(result.join("report.json")).unwrap();
    let (said, again) = evaluate();
    assert!(said.contains("complete already"), "{said}");
    assert_eq!((again.speedup, again.quality), (words.speedup, words.quality));
    assert_eq!(again.output.unwrap().uri, output.uri);
    // an upload that broke off before its report is no result, and is completed
    fs::remove_file(result.join("report.json")).unwrap();
    fs::remove_file(result.join("config.json")).unwrap();
    evaluate();
    assert_eq!(digest(&result), digest(&local));
    assert_eq!(fs::read(result.join("report.json")).unwrap(), report, "measured once");
}

#[test]
fn what_cannot_be_fetched_is_a_sentence_and_an_exit_code() {
    let workshop = Workshop::new();
    workshop.init();
    let ended = |dataset: &str, extra: &[String], code| {
        let mut adapt = workshop.adapt_command("target", "adapt", 1);
        fail(adapt.arg(format!("--dataset={dataset}")).args(extra), code)
    };
    let refused = |dataset: &str, extra: &[String]| ended(dataset, extra, 2);
    assert!(refused("s3://bucket/data/*.jsonl", &[]).contains("--cache"));
    let cache = [workshop.flag("cache", "cache")];
    assert!(refused("hf://org/data", &cache).contains("put the files into S3"));
    assert!(refused("s3://b/x", &cache).contains("s3://BUCKET/PREFIX"));
    let empty = [workshop.flag("cache", "cache"), workshop.flag("dataset-credentials", "nowhere")];
    // a Secret may be corrected before the next try
    assert!(ended("s3://bucket/data/a.jsonl", &empty, 1).contains("accessKeyId is missing"));
}
