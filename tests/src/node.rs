//! A node: containerd, kubelet and kube-proxy in namespaces of their own, started by `cluster/node.sh`.

use std::{
    ffi::OsString,
    fs, io,
    path::{Path, PathBuf},
};

use crate::{ControlPlane, Error, network::Network, process::Process};

/// The names of nodes by their number.
pub(crate) const NAMES: [&str; crate::network::MOST_NODES] = ["node-0", "node-1", "node-2", "node-3"];
/// The address of the DNS Service.
pub(crate) const DNS_SERVICE: &str = "10.96.0.10";

/// Each is written into the node's folder with what is between `@`s filled in.
const CONFIGURATION: [(&str, &str); 4] = [
    ("containerd.toml", include_str!("../cluster/config/containerd.toml")),
    ("kubelet.yaml", include_str!("../cluster/config/kubelet.yaml")),
    ("kube-proxy.yaml", include_str!("../cluster/config/kube-proxy.yaml")),
    ("pod-network/pods.conflist", include_str!("../cluster/config/pod-network.conflist")),
];

/// What a node is started with, again and again.
#[derive(Debug)]
pub(crate) struct Node {
    number: usize,
    folder: PathBuf,
    command_line: Vec<OsString>,
    process: Option<Process>,
}

impl Node {
    /// Writes the configuration of a node; [`Self::start`] starts it. Images are archives that containerd can import.
    pub(crate) fn new(
        number: usize,
        control_plane: &ControlPlane,
        network: &Network,
        programs: &Path,
        images: &[PathBuf],
    ) -> Result<Self, Error> {
        let folder = control_plane.folder().join(NAMES[number]);
        write_configuration(number, &folder, control_plane, network, programs).map_err(failed(number))?;
        for (file, user) in [("kubelet", NAMES[number]), ("kube-proxy", "kube-proxy")] {
            let kubeconfig = control_plane.write_kubeconfig(user)?;
            fs::copy(kubeconfig, folder.join("config").join(format!("{file}.kubeconfig"))).map_err(failed(number))?;
        }
        let mut command_line: Vec<OsString> =
            vec!["nsenter".into(), format!("--net=/run/netns/{}", network.namespace(number)).into(), "unshare".into()];
        // The end of `unshare` is the end of its child, and that is process 1 of all on the node.
        let unshare = ["--mount", "--mount-proc", "--pid", "--fork", "--kill-child=KILL"];
        command_line.extend(unshare.map(OsString::from));
        command_line.push(Path::new(env!("CARGO_MANIFEST_DIR")).join("cluster/node.sh").into());
        command_line.extend([folder.clone().into(), programs.into(), NAMES[number].into()]);
        command_line.push(network.node(number).to_string().into());
        command_line.push(programs.join("pause.tar").into());
        command_line.extend(images.iter().map(OsString::from));
        Ok(Self { number, folder, command_line, process: None })
    }

    /// Starts it, also after [`Self::kill`], as a machine that lost its power and has it again.
    pub(crate) fn start(&mut self) -> Result<(), Error> {
        self.process = Some(Process::run(NAMES[self.number], self.command_line.clone(), &self.folder)?);
        Ok(())
    }

    /// Ends everything that runs on it at once, as a loss of power does.
    pub(crate) fn kill(&mut self) {
        self.process = None;
    }

    /// Its process 1, while it runs.
    pub(crate) fn process_mut(&mut self) -> Option<&mut Process> {
        self.process.as_mut()
    }
}

fn write_configuration(
    number: usize,
    folder: &Path,
    control_plane: &ControlPlane,
    network: &Network,
    programs: &Path,
) -> io::Result<()> {
    let config = folder.join("config");
    let values = [
        ("CONFIG", config.display().to_string()),
        ("PROGRAMS", programs.display().to_string()),
        ("PKI", control_plane.folder().join("pki").display().to_string()),
        ("CGROUP", format!("/{}", network.namespace(number))),
        ("DNS", DNS_SERVICE.to_owned()),
        ("PODS", network.pods()),
        ("NODE_PODS", network.pods_of(number)),
        ("NODE", NAMES[number].to_owned()),
    ];
    fs::create_dir_all(config.join("pod-network"))?;
    fs::write(config.join("resolv.conf"), "")?; // Pods ask the cluster's DNS and no other
    for (file, template) in CONFIGURATION {
        let path = config.join(file);
        fs::write(path, filled(template, &values))?;
    }
    Ok(())
}

/// The template with each `@NAME@` replaced.
pub(crate) fn filled(template: &str, values: &[(&str, String)]) -> String {
    values.iter().fold(template.to_owned(), |text, (name, value)| text.replace(&format!("@{name}@"), value))
}

fn failed(number: usize) -> impl FnOnce(io::Error) -> Error {
    Error::io(format!("write the configuration of {}", NAMES[number]))
}
