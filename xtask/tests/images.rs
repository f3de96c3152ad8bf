//! Images of a tiny binary, made by the real program and read as a container runtime reads them.

#![expect(clippy::unwrap_used, reason = "tests and their helpers fail by panicking")]

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

const DESCRIPTION: &str = "
builder: rust:1.95.0-slim-bookworm
user: 65532
images:
  - { name: tiny, package: tiny, binary: tiny-binary, description: Does nothing, ports: [8000, 9090] }
  - { name: other, package: other, binary: missing, description: Is not built, ports: [] }
  - { name: tiny-cuda, package: tiny, binary: tiny-binary, description: Runs on a GPU, ports: [], cuda: true }
";
const TIME: u64 = 1_700_000_000;

/// A repository in a folder of its own, whose one binary is a small program of this machine.
fn repository(description: &str) -> TempDir {
    let root = tempfile::tempdir().unwrap();
    fs::create_dir_all(root.path().join("images")).unwrap();
    fs::create_dir_all(root.path().join("target/debug")).unwrap();
    fs::write(root.path().join("images/images.yaml"), description).unwrap();
    fs::copy("/bin/true", root.path().join("target/debug/tiny-binary")).unwrap();
    root
}

fn xtask(root: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
    command.args(["images", "--profile=dev", "--root"]).arg(root).args(arguments);
    command.env("SOURCE_DATE_EPOCH", TIME.to_string());
    command
}

fn succeed(command: &mut Command) -> String {
    let Output { status, stdout, stderr } = command.output().unwrap();
    assert!(status.success(), "{}", String::from_utf8_lossy(&stderr));
    String::from_utf8(stdout).unwrap()
}

fn fail(command: &mut Command) -> String {
    let Output { status, stderr, .. } = command.output().unwrap();
    let stderr = String::from_utf8_lossy(&stderr).into_owned();
    assert!(!status.success(), "it did not fail: {stderr}");
    stderr
}

/// An entry of a tar archive.
struct Entry {
    mode: u32,
    content: Vec<u8>,
}

/// The entries by path, in the order of the archive; checks what holds for every archive that is made here.
fn entries(archive: &[u8]) -> Vec<(String, Entry)> {
    let mut archive = tar::Archive::new(archive);
    let read = |entry: std::io::Result<tar::Entry<'_, &[u8]>>| {
        let mut entry = entry.unwrap();
        let path = entry.path().unwrap().to_str().unwrap().to_owned();
        let header = entry.header().clone();
        assert_eq!(header.mtime().unwrap(), TIME, "{path}");
        assert_eq!((header.uid().unwrap(), header.gid().unwrap()), (0, 0), "{path}");
        let mut content = Vec::new();
        entry.read_to_end(&mut content).unwrap();
        (path, Entry { mode: header.mode().unwrap(), content })
    };
    let entries: Vec<_> = archive.entries().unwrap().map(read).collect();
    assert!(entries.is_sorted_by(|(before, _), (after, _)| before < after), "entries are sorted");
    entries
}

/// An archive of an image, with its blobs looked up by digest.
struct Archive(BTreeMap<String, Entry>);

impl Archive {
    fn read(path: &Path) -> Self {
        Self(entries(&fs::read(path).unwrap()).into_iter().collect())
    }

    fn json(&self, path: &str) -> Value {
        serde_json::from_slice(&self.0[path].content).unwrap()
    }

    fn blob(&self, descriptor: &Value) -> &[u8] {
        let digest = descriptor["digest"].as_str().unwrap();
        let content = &self.0[&digest.replace("sha256:", "blobs/sha256/")].content;
        assert_eq!(digest, sha256(content));
        assert_eq!(descriptor["size"], content.len());
        content
    }

    fn manifest_descriptor(&self) -> Value {
        let manifests = self.json("index.json")["manifests"].clone();
        assert_eq!(manifests.as_array().unwrap().len(), 1);
        manifests[0].clone()
    }

    fn manifest(&self) -> Value {
        serde_json::from_slice(self.blob(&self.manifest_descriptor())).unwrap()
    }
}

fn sha256(content: &[u8]) -> String {
    format!("sha256:{:x}", Sha256::digest(content))
}

#[test]
fn an_archive_is_an_image_layout_whose_digests_are_right() {
    let root = repository(DESCRIPTION);
    let said = succeed(&mut xtask(root.path(), &["--image", "tiny", "--tag", "1.2.3"]));
    let archive = Archive::read(&root.path().join("target/images/tiny.tar"));

    assert_eq!(archive.json("oci-layout"), json!({"imageLayoutVersion": "1.0.0"}));
    let descriptor = archive.manifest_descriptor();
    assert_eq!(
        descriptor["annotations"],
        json!({"io.containerd.image.name": "docker.io/library/tiny:1.2.3", "org.opencontainers.image.ref.name": "1.2.3"})
    );
    assert!(
        said.contains("docker.io/library/tiny:1.2.3") && said.contains(descriptor["digest"].as_str().unwrap()),
        "{said}"
    );

    let manifest = archive.manifest();
    let configuration: Value = serde_json::from_slice(archive.blob(&manifest["config"])).unwrap();
    assert_eq!(configuration["created"], "2023-11-14T22:13:20Z");
    assert_eq!(
        configuration["config"],
        json!({
            "User": "65532:65532",
            "Entrypoint": ["tiny-binary"],
            "Env": ["PATH=/usr/local/bin:/usr/bin:/bin"],
            "ExposedPorts": {"8000/tcp": {}, "9090/tcp": {}},
            "WorkingDir": "/",
            "Labels": {
                "org.opencontainers.image.title": "tiny",
                "org.opencontainers.image.description": "Does nothing",
                "org.opencontainers.image.version": env!("CARGO_PKG_VERSION"),
                "org.opencontainers.image.source": env!("CARGO_PKG_REPOSITORY"),
                "org.opencontainers.image.licenses": env!("CARGO_PKG_LICENSE"),
            },
        })
    );
    let layers = manifest["layers"].as_array().unwrap();
    let differences: Vec<_> = layers.iter().map(|layer| json!(sha256(archive.blob(layer)))).collect();
    assert_eq!(configuration["rootfs"], json!({"type": "layers", "diff_ids": differences}));
    assert_eq!(
        archive.0.keys().filter(|path| path.starts_with("blobs/sha256/") && path.len() > 20).count(),
        layers.len() + 2
    );
}

#[test]
fn an_image_holds_the_libraries_accounts_authorities_and_the_binary() {
    let root = repository(DESCRIPTION);
    succeed(&mut xtask(root.path(), &["--image", "tiny"]));
    let archive = Archive::read(&root.path().join("target/images/tiny.tar"));
    let layers: Vec<_> =
        archive.manifest()["layers"].as_array().unwrap().iter().map(|layer| entries(archive.blob(layer))).collect();
    let [base, binary] = layers.as_slice() else { panic!("{} layers", layers.len()) };

    let base: BTreeMap<_, _> = base.iter().map(|(path, entry)| (path.as_str(), entry)).collect();
    assert_eq!(base["tmp/"].mode, 0o1777);
    assert!(String::from_utf8_lossy(&base["etc/passwd"].content).contains(":65532:65532:"));
    assert!(base["etc/ssl/certs/ca-certificates.crt"].content.starts_with(b"-----BEGIN CERTIFICATE-----\n"));
    assert!(base.keys().any(|path| path.ends_with("/libc.so.6")) && base.keys().any(|path| path.contains("/ld-linux")));
    assert!(
        base.values().all(|entry| entry.mode & 0o022 == 0 || entry.mode == 0o1777),
        "only /tmp is for others to write"
    );

    let paths: Vec<_> = binary.iter().map(|(path, entry)| (path.as_str(), entry.mode)).collect();
    assert_eq!(
        paths,
        [("usr/", 0o755), ("usr/local/", 0o755), ("usr/local/bin/", 0o755), ("usr/local/bin/tiny-binary", 0o755)]
    );
}

/// Runs the C compiler of this machine.
fn compile(source: &str, arguments: &[&str], output: &Path) {
    let file = output.with_extension("c");
    fs::write(&file, source).unwrap();
    let status = Command::new("cc").args(["-o"]).arg(output).arg(&file).args(arguments).status().unwrap();
    assert!(status.success());
    fs::remove_file(file).unwrap();
}

/// A program that needs a library of CUDA and the driver, in `target/cuda/debug`, and the folder that `CUDA_HOME` names.
fn cuda_program(root: &Path) -> std::path::PathBuf {
    let (home, binaries) = (root.join("cu13"), root.join("target/cuda/debug"));
    let library = home.join("lib");
    fs::create_dir_all(&library).unwrap();
    fs::create_dir_all(&binaries).unwrap();
    for (file, name) in [("libcublas.so.13", "one"), ("libcuda.so.1", "two")] {
        let soname = format!("-Wl,-soname,{file}");
        compile(&format!("int {name}(void) {{ return 1; }}"), &["-shared", "-fPIC", &soname], &library.join(file));
    }
    let libraries = ["libcublas.so.13", "libcuda.so.1"].map(|file| library.join(file).to_str().unwrap().to_owned());
    let source = "int one(void); int two(void); int main(void) { return one() + two(); }";
    compile(source, &libraries.each_ref().map(String::as_str), &binaries.join("tiny-binary"));
    // only the machine that runs the program has a driver
    fs::remove_file(library.join("libcuda.so.1")).unwrap();
    fs::write(library.join("libnvrtc-builtins.so.13.0"), "loaded by name").unwrap();
    home
}

#[test]
fn an_image_for_gpus_holds_the_libraries_of_cuda_but_not_the_driver() {
    let root = repository(DESCRIPTION);
    let home = cuda_program(root.path());
    let said = succeed(xtask(root.path(), &["--cuda"]).env("CUDA_HOME", &home));
    assert_eq!(said.lines().count(), 1, "those without CUDA are not made: {said}");
    let archive = Archive::read(&root.path().join("target/images/tiny-cuda.tar"));
    let manifest = archive.manifest();
    let configuration: Value = serde_json::from_slice(archive.blob(&manifest["config"])).unwrap();
    let environment = configuration["config"]["Env"].to_string();
    assert!(environment.contains("NVIDIA_DRIVER_CAPABILITIES=compute,utility"), "{environment}");
    let layers: Vec<Vec<String>> = manifest["layers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|layer| entries(archive.blob(layer)).into_iter().map(|(path, _)| path).collect())
        .collect();
    let [base, cuda, binary] = layers.as_slice() else { panic!("{} layers", layers.len()) };
    let folder = base.iter().find_map(|path| path.strip_suffix("libc.so.6")).unwrap();
    let files: Vec<_> = cuda.iter().filter(|path| !path.ends_with('/')).map(String::as_str).collect();
    assert_eq!(files, [format!("{folder}libcublas.so.13"), format!("{folder}libnvrtc-builtins.so.13.0")]);
    assert!(binary.contains(&"usr/local/bin/tiny-binary".to_owned()));
    assert!(layers.iter().flatten().all(|path| !path.contains("libcuda.so")));
    let error = fail(xtask(root.path(), &["--cuda"]).env_remove("CUDA_HOME"));
    assert!(error.contains("tests/cuda/environment.sh"), "{error}");
}

#[test]
fn the_same_source_in_another_folder_makes_the_same_bytes() {
    let [one, other] = [(); 2].map(|()| {
        let root = repository(DESCRIPTION);
        succeed(&mut xtask(root.path(), &["--image", "tiny"]));
        fs::read(root.path().join("target/images/tiny.tar")).unwrap()
    });
    assert!(one == other);
}

#[test]
fn a_root_file_system_is_written_for_dockerfiles() {
    let root = repository(DESCRIPTION);
    let folder = root.path().join("out");
    succeed(xtask(root.path(), &["--image", "tiny", "--root-file-system"]).arg(&folder));
    let mode = |path: &str| fs::metadata(folder.join(path)).unwrap().permissions().mode() & 0o7777;
    assert_eq!((mode("tmp"), mode("usr/local/bin/tiny-binary"), mode("etc/passwd")), (0o1777, 0o755, 0o644));
}

#[test]
fn names_are_completed_as_container_runtimes_complete_them() {
    let root = repository(DESCRIPTION);
    for (registry, expected) in [
        ("", "docker.io/library/tiny:1"),
        ("team", "docker.io/team/tiny:1"),
        ("registry.example/team/", "registry.example/team/tiny:1"),
        ("localhost:5000", "localhost:5000/tiny:1"),
    ] {
        succeed(&mut xtask(root.path(), &["--image", "tiny", "--tag", "1", "--registry", registry]));
        let archive = Archive::read(&root.path().join("target/images/tiny.tar"));
        assert_eq!(archive.manifest_descriptor()["annotations"]["io.containerd.image.name"], expected);
    }
}

#[test]
fn what_cannot_be_made_is_refused_with_what_to_do() {
    let root = repository(DESCRIPTION);
    for (arguments, expected) in [
        (["--image=none", "--tag=1"], "no image is called \"none\"; there are tiny, other, tiny-cuda"),
        (["--image=tiny", "--tag=a b"], "\"tiny:a b\" is no name of an image"),
        (["--image=tiny", "--registry=registry.example/Team"], "\"registry.example/Team/tiny:"),
        (["--image=other", "--tag=1"], "build it with `cargo build --workspace`"),
        (["--image=tiny-cuda", "--tag=1"], "add --cuda"),
        (["--image=tiny", "--cuda"], "leave --cuda away"),
    ] {
        let error = fail(&mut xtask(root.path(), &arguments));
        assert!(error.contains(expected), "{arguments:?}: {error}");
    }
    let error = fail(&mut xtask(root.path(), &["--root-file-system=out"]));
    assert!(error.contains("name one with --image"), "{error}");
    let error = fail(xtask(root.path(), &["--image=tiny"]).env_remove("SOURCE_DATE_EPOCH"));
    assert!(error.contains("set SOURCE_DATE_EPOCH"), "{error}");
}

#[test]
fn a_wrong_description_is_refused_with_what_is_allowed() {
    for (from, to, expected) in [
        ("user: 65532", "user: 0", "the user is 0, which is root"),
        ("user: 65532", "usr: 65532", "usr"),
        ("rust:1.95.0-slim-bookworm", "rust:latest", "pin a tag that begins with a full version of Rust"),
        ("rust:1.95.0-slim-bookworm", "rust", "pin a tag that begins with a full version of Rust"),
        ("name: other", "name: tiny", "two images are called \"tiny\""),
        ("name: tiny", "name: Tiny", "lower-case letters"),
        ("name: tiny", "name: team/tiny", "lower-case letters"),
        ("binary: missing", "binary: ../missing", "which is no file name"),
        ("package: tiny", "package: ''", "its package is empty"),
        ("Does nothing", "'Does \"nothing\"'", "one line without quotes"),
        ("[8000, 9090]", "[0]", "zero"),
        ("[8000, 9090]", "[70000]", "70000"),
    ] {
        assert!(DESCRIPTION.contains(from));
        let root = repository(&DESCRIPTION.replace(from, to));
        let error = fail(&mut xtask(root.path(), &["--image=tiny"]));
        assert!(error.contains(expected), "{to}: {error}");
    }
    let root = repository("builder: rust:1.95.0\nuser: 1\nimages: []\n");
    let error = fail(&mut xtask(root.path(), &[]));
    assert!(error.contains("name at least one"), "{error}");
}
