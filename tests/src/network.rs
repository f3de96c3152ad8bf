//! The network of a cluster with nodes, made and removed by `cluster/network.sh`.

use std::{
    fs::{self, File, TryLockError},
    io,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use crate::Error;

/// At most so many nodes: each has a quarter of the Pods' addresses.
pub(crate) const MOST_NODES: usize = 4;
/// As many clusters can have a network at the same time on one machine.
const NETWORKS: u8 = 64;
const CLAIMS: &str = "/run/lock";

/// A bridge, and for each node a network namespace on it. Removed with the cluster's folder.
#[derive(Debug)]
pub(crate) struct Network {
    id: u8,
    /// Locked as long as this network exists; the lock goes with the last process that holds the file.
    claim: File,
}

impl Network {
    /// Makes the network of a cluster with so many nodes. What an earlier cluster left under its number is removed first.
    pub(crate) fn create(nodes: usize) -> Result<Self, Error> {
        if !is_root() {
            return Err(Error::NotRoot);
        }
        let network = Self::claim_free()?;
        let output = Command::new(script())
            .args(["up", &network.id.to_string(), &nodes.to_string()])
            .stdin(Stdio::null())
            .output()
            .map_err(Error::io("run network.sh"))?;
        if output.status.success() {
            return Ok(network);
        }
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        Err(Error::Network { said })
    }

    fn claim_free() -> Result<Self, Error> {
        let failed = || Error::io("claim a network for the cluster");
        for id in 1..=NETWORKS {
            let path = Path::new(CLAIMS).join(format!("cllm-test-network-{id}"));
            let claim = File::options().create(true).truncate(false).write(true).open(path).map_err(failed())?;
            match claim.try_lock() {
                Ok(()) => return Ok(Self { id, claim }),
                Err(TryLockError::WouldBlock) => {}
                Err(TryLockError::Error(error)) => return Err(failed()(error)),
            }
        }
        Err(failed()(io::Error::other(format!("{NETWORKS} clusters have one: end some"))))
    }

    pub(crate) fn id(&self) -> u8 {
        self.id
    }

    /// Another handle of the file whose lock is the claim on this network.
    pub(crate) fn claim(&self) -> io::Result<File> {
        self.claim.try_clone()
    }

    /// Where nodes and Pods reach this machine.
    pub(crate) fn machine(&self) -> Ipv4Addr {
        Ipv4Addr::new(10, 77, self.id, 1)
    }

    pub(crate) fn node(&self, number: usize) -> Ipv4Addr {
        Ipv4Addr::new(10, 77, self.id, 10 + small(number))
    }

    /// The addresses of all Pods.
    pub(crate) fn pods(&self) -> String {
        format!("10.78.{}.0/24", self.id)
    }

    pub(crate) fn pods_of(&self, number: usize) -> String {
        format!("10.78.{}.{}/26", self.id, 64 * small(number))
    }

    /// The name of a node's network namespace and of its control group.
    pub(crate) fn namespace(&self, number: usize) -> String {
        format!("cllm-{}-{number}", self.id)
    }
}

pub(crate) fn script() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("cluster/network.sh")
}

fn small(number: usize) -> u8 {
    u8::try_from(number.min(MOST_NODES - 1)).unwrap_or_default()
}

/// Whether this process belongs to root, as the owner of its own entry in /proc says.
fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt;
    fs::metadata("/proc/self").is_ok_and(|entry| entry.uid() == 0)
}
