//! A whole Kubernetes: the control plane, nodes that run Pods, DNS and volumes.

use std::{
    fs,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use serde_json::{Value, json};

use crate::{
    ControlPlane, Error,
    network::Network,
    node::{DNS_SERVICE, NAMES, Node, filled},
    programs,
    shared_folders::{self, SharedFolders},
};

const COREFILE: &str = include_str!("../cluster/config/Corefile");

/// A control plane with nodes. All of it ends when it is dropped or the process ends in whatever way.
///
/// It needs root. This machine reaches Pods by their addresses; names of Services are known to Pods alone.
#[derive(Debug)]
pub struct Cluster {
    // In this order they are dropped.
    nodes: Vec<Mutex<Node>>,
    _volumes: SharedFolders,
    control_plane: ControlPlane,
    network: Network,
}

impl Cluster {
    /// Starts a cluster with up to four nodes, on which these images are present: archives that containerd can import.
    ///
    /// Builds the programs first if this machine does not have them (about twenty minutes, once).
    pub async fn start(nodes: usize, images: &[PathBuf]) -> Result<Self, Error> {
        let programs = programs::folder(&["control-plane", "nodes"]).await?;
        let names = &NAMES[..nodes.clamp(1, NAMES.len())];
        let network = Network::create(names.len())?;
        let control_plane = ControlPlane::start_for(&programs, Some(&network), names).await?;
        let volumes = SharedFolders::start(&control_plane)?;
        let mut cluster = Self { nodes: Vec::new(), _volumes: volumes, control_plane, network };
        match cluster.start_nodes(names.len(), &programs, images).await {
            Ok(()) => Ok(cluster),
            Err(error) => Err(cluster.control_plane.kept(error)),
        }
    }

    async fn start_nodes(&mut self, count: usize, programs: &Path, images: &[PathBuf]) -> Result<(), Error> {
        self.start_dns(programs)?;
        self.control_plane.kubectl_with_input(&["apply", "-f", "-"], &self.objects().to_string()).await?;
        for number in 0..count {
            let mut node = Node::new(number, &self.control_plane, &self.network, programs, images)?;
            node.start()?;
            self.nodes.push(Mutex::new(node));
        }
        for number in 0..count {
            self.node_is_ready(number).await?;
        }
        Ok(())
    }

    /// Waits until the node takes Pods, unless it ends before.
    async fn node_is_ready(&mut self, number: usize) -> Result<(), Error> {
        let node = format!("node/{}", NAMES[number]);
        let process = self.nodes[number].get_mut().unwrap_or_else(PoisonError::into_inner).process_mut();
        self.control_plane.until_answered_by(process, &["wait", "--for=condition=Ready", &node, "--timeout=1s"]).await
    }

    /// DNS runs on this machine, behind the Service that Pods ask.
    fn start_dns(&mut self, programs: &Path) -> Result<(), Error> {
        let values = [
            ("ADDRESS", self.network.machine().to_string()),
            ("KUBECONFIG", self.control_plane.kubeconfig().display().to_string()),
        ];
        let corefile = self.control_plane.folder().join("Corefile");
        fs::write(&corefile, filled(COREFILE, &values)).map_err(Error::io("write the Corefile"))?;
        self.control_plane.start_program(programs, "coredns", vec![format!("-conf={}", corefile.display())])
    }

    /// What every cluster has from the start.
    fn objects(&self) -> Value {
        let ports =
            json!([{"name": "dns", "port": 53, "protocol": "UDP"}, {"name": "dns-tcp", "port": 53, "protocol": "TCP"}]);
        let service = json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": "kube-dns", "namespace": "kube-system"},
            "spec": {"clusterIP": DNS_SERVICE, "ports": ports},
        });
        let endpoints = json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4", "ports": ports,
            "metadata": {
                "name": "kube-dns", "namespace": "kube-system", "labels": {"kubernetes.io/service-name": "kube-dns"},
            },
            "endpoints": [{"addresses": [self.network.machine()], "conditions": {"ready": true}}],
        });
        json!({"apiVersion": "v1", "kind": "List", "items": [service, endpoints, shared_folders::storage_class()]})
    }

    /// Ends everything on a node at once, as a loss of power does.
    pub fn kill_node(&self, number: usize) {
        self.node(number).kill();
    }

    /// Starts a killed node again, and waits until it takes Pods.
    pub async fn restart_node(&self, number: usize) -> Result<(), Error> {
        self.node(number).start()?;
        let node = format!("node/{}", NAMES[number]);
        self.control_plane.kubectl(&["wait", "--for=condition=Ready", &node, "--timeout=60s"]).await.map(|_| ())
    }

    /// A node is whole even if a thread died while it held it.
    fn node(&self, number: usize) -> MutexGuard<'_, Node> {
        self.nodes[number].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The network namespace of a node, in `/run/netns`.
    pub fn network_namespace(&self, number: usize) -> String {
        self.network.namespace(number)
    }

    /// The address of this machine at which Pods reach servers of the test.
    pub fn address(&self) -> Ipv4Addr {
        self.network.machine()
    }

    /// The folder of this machine behind a bound claim.
    pub fn folder_of_claim(&self, namespace: &str, claim: &str) -> PathBuf {
        shared_folders::folder_of_claim(&self.control_plane, namespace, claim)
    }

    /// The control plane: clients, `kubectl`, `helm`.
    pub fn control_plane(&self) -> &ControlPlane {
        &self.control_plane
    }
}
