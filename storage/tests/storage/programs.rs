//! The real servers, each with a port and a folder of its own, ended with the test.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

use crate::support::eventually;

/// A running server.
pub(crate) struct Server {
    child: Child,
    pub(crate) address: String,
    pub(crate) folder: tempfile::TempDir,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The program, built by the script that builds the test cluster.
fn program(name: &str) -> PathBuf {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    let folder = FOLDER.get_or_init(|| {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/cluster/build.sh");
        let output =
            Command::new(script).arg("storage").stdin(Stdio::null()).stderr(Stdio::inherit()).output().unwrap();
        assert!(output.status.success(), "the programs could not be built");
        PathBuf::from(String::from_utf8(output.stdout).unwrap().trim_end())
    });
    folder.join(name)
}

async fn start(folder: tempfile::TempDir, port: u16, command: &mut Command) -> Server {
    let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let address = format!("127.0.0.1:{port}");
    let server = Server { child, address, folder };
    eventually("the server listens", || std::net::TcpStream::connect(&server.address).is_ok()).await;
    server
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

pub(crate) const ACCESS_KEY: &str = "test-access";
pub(crate) const SECRET_KEY: &str = "test-hidden-secret";

/// An S3 server over a folder: its folders are the buckets.
pub(crate) async fn s3() -> Server {
    let (folder, port) = (tempfile::tempdir().unwrap(), free_port());
    std::fs::create_dir(folder.path().join("bucket")).unwrap();
    let mut command = Command::new(program("versitygw"));
    command.args(["--port", &format!("127.0.0.1:{port}"), "--access", ACCESS_KEY, "--secret", SECRET_KEY, "posix"]);
    command.arg(folder.path());
    start(folder, port, &mut command).await
}

/// A registry; with a user `me` whose password is `hidden-password`, or for everybody.
pub(crate) async fn registry(with_login: bool) -> Server {
    let (folder, port) = (tempfile::tempdir().unwrap(), free_port());
    let users = folder.path().join("users");
    std::fs::write(&users, "me:$2y$05$abcdefghijklmnopqrstuu4hGQvs0vDCt67WHag1MU8WWi6/aHllq\n").unwrap();
    let login = format!("auth: {{htpasswd: {{realm: test, path: {}}}}}\n", users.display());
    let config = folder.path().join("config.yml");
    let data = folder.path().join("data");
    let text = format!(
        "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: '127.0.0.1:{port}'}}\n{}",
        data.display(),
        if with_login { &login } else { "" },
    );
    std::fs::write(&config, text).unwrap();
    start(folder, port, Command::new(program("registry")).arg("serve").arg(config)).await
}
