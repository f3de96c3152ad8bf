//! What lies in an image: a base that all images share, and one binary.

use anyhow::Context;
use pem::{EncodeConfig, LineEnding, Pem};

use super::libraries::Library;
use super::tree::Tree;

/// The folder of the binary.
pub(crate) const BINARY_FOLDER: &str = "/usr/local/bin";

/// The loader and its libraries, accounts, how names are looked up, whom TLS trusts, and a `/tmp`.
pub(crate) fn base(user: u32, libraries: &[Library]) -> anyhow::Result<Tree> {
    let accounts = Tree::default()
        .with_folder("tmp", 0o1777)
        .with_file(
            "etc/passwd",
            0o644,
            format!("root:x:0:0:root:/:/sbin/nologin\ncllm:x:{user}:{user}:cllm:/tmp:/sbin/nologin\n"),
        )
        .with_file("etc/group", 0o644, format!("root:x:0:\ncllm:x:{user}:\n"))
        .with_file("etc/nsswitch.conf", 0o644, "passwd: files\ngroup: files\nhosts: files dns\n")
        .with_file("etc/ssl/certs/ca-certificates.crt", 0o644, certificates());
    with_libraries(accounts, libraries)
}

/// Nothing but libraries.
pub(crate) fn libraries(libraries: &[Library]) -> anyhow::Result<Tree> {
    with_libraries(Tree::default(), libraries)
}

fn with_libraries(tree: Tree, libraries: &[Library]) -> anyhow::Result<Tree> {
    libraries.iter().try_fold(tree, |tree, library| {
        let Library { target, source } = library;
        let content = std::fs::read(source).with_context(|| format!("cannot read {}", source.display()))?;
        Ok(tree.with_file(target, 0o755, content))
    })
}

/// The binary in its folder.
pub(crate) fn binary(name: &str, content: Vec<u8>) -> Tree {
    Tree::default().with_file(&format!("{}/{name}", BINARY_FOLDER.trim_start_matches('/')), 0o755, content)
}

/// Mozilla's certificate authorities: pinned by the lock file, unlike those of the machine, which may have some of its own.
fn certificates() -> String {
    let encoding = EncodeConfig::new().set_line_ending(LineEnding::LF);
    let authorities = webpki_root_certs::TLS_SERVER_ROOT_CERTS.iter();
    authorities.map(|authority| pem::encode_config(&Pem::new("CERTIFICATE", authority.as_ref()), encoding)).collect()
}
