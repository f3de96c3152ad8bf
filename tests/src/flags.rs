//! The command lines of the cluster's programs.

use std::{
    fs, io,
    net::{Ipv4Addr, TcpListener},
    path::{Path, PathBuf},
};

use crate::Error;

/// Where one cluster has its files and listens.
#[derive(Debug)]
pub(crate) struct Layout {
    pub(crate) folder: PathBuf,
    /// Where the API server listens: loopback, or where nodes reach this machine.
    address: Ipv4Addr,
    etcd: u16,
    etcd_peer: u16,
    api_server: u16,
}

impl Layout {
    /// Finds free ports. Between this and the programs' start another process may take one; the
    /// program then ends at once and says so.
    pub(crate) fn new(folder: &Path, address: Ipv4Addr) -> Result<Self, Error> {
        let [etcd, etcd_peer, api_server] = free_ports().map_err(Error::io("find free ports on loopback"))?;
        Ok(Self { folder: folder.to_owned(), address, etcd, etcd_peer, api_server })
    }

    /// Pods can run only where nodes reach the API server.
    fn has_nodes(&self) -> bool {
        !self.address.is_loopback()
    }

    /// Writes `folder/name.kubeconfig` for the user with the certificate `pki/user.crt`.
    pub(crate) fn write_kubeconfig(&self, user: &str) -> Result<PathBuf, Error> {
        let Self { folder, address, api_server, .. } = self;
        let path = folder.join(format!("{user}.kubeconfig"));
        let pki = self.pki().display().to_string();
        let text = format!(
            "apiVersion: v1
kind: Config
clusters:
- name: test
  cluster: {{server: 'https://{address}:{api_server}', certificate-authority: '{pki}/ca.crt'}}
users:
- name: {user}
  user: {{client-certificate: '{pki}/{user}.crt', client-key: '{pki}/{user}.key'}}
contexts:
- name: test
  context: {{cluster: test, user: {user}}}
current-context: test
"
        );
        fs::write(&path, text).map_err(Error::io("write a kubeconfig"))?;
        Ok(path)
    }

    pub(crate) fn pki(&self) -> PathBuf {
        self.folder.join("pki")
    }

    pub(crate) fn etcd(&self) -> Vec<String> {
        let client = format!("http://127.0.0.1:{}", self.etcd);
        let peer = format!("http://127.0.0.1:{}", self.etcd_peer);
        vec![
            format!("--data-dir={}", self.folder.join("etcd").display()),
            format!("--listen-client-urls={client}"),
            format!("--advertise-client-urls={client}"),
            format!("--listen-peer-urls={peer}"),
            format!("--initial-advertise-peer-urls={peer}"),
            format!("--initial-cluster=default={peer}"),
            "--unsafe-no-fsync".to_owned(), // the data does not outlive the process anyway
            "--log-level=warn".to_owned(),
        ]
    }

    pub(crate) fn api_server(&self) -> Vec<String> {
        let pki = self.pki();
        let pki = pki.display();
        let mut flags = vec![
            format!("--etcd-servers=http://127.0.0.1:{}", self.etcd),
            format!("--bind-address={}", self.address),
            format!("--advertise-address={}", self.address),
            format!("--secure-port={}", self.api_server),
            "--service-cluster-ip-range=10.96.0.0/16".to_owned(),
            format!("--tls-cert-file={pki}/apiserver.crt"),
            format!("--tls-private-key-file={pki}/apiserver.key"),
            format!("--client-ca-file={pki}/ca.crt"),
            "--authorization-mode=Node,RBAC".to_owned(),
            "--allow-privileged=true".to_owned(),
            "--service-account-issuer=https://kubernetes.default.svc.cluster.local".to_owned(),
            format!("--service-account-key-file={pki}/service-account.pub"),
            format!("--service-account-signing-key-file={pki}/service-account.key"),
            format!("--requestheader-client-ca-file={pki}/front-proxy-ca.crt"),
            "--requestheader-allowed-names=front-proxy-client".to_owned(),
            "--requestheader-username-headers=X-Remote-User".to_owned(),
            "--requestheader-group-headers=X-Remote-Group".to_owned(),
            "--requestheader-extra-headers-prefix=X-Remote-Extra-".to_owned(),
            format!("--proxy-client-cert-file={pki}/front-proxy-client.crt"),
            format!("--proxy-client-key-file={pki}/front-proxy-client.key"),
            "--profiling=false".to_owned(),
        ];
        flags.extend(if self.has_nodes() { self.with_nodes() } else { without_nodes() });
        flags
    }

    pub(crate) fn controller_manager(&self, kubeconfig: &Path) -> Vec<String> {
        let pki = self.pki();
        let pki = pki.display();
        vec![
            // A node that says nothing for this long is lost: 50 s in production.
            "--node-monitor-grace-period=10s".to_owned(),
            "--node-monitor-period=1s".to_owned(),
            format!("--kubeconfig={}", kubeconfig.display()),
            "--secure-port=0".to_owned(), // nobody asks it for its own health or metrics
            "--leader-elect=false".to_owned(),
            // As in production: every controller has only the rights of its own service account.
            "--use-service-account-credentials=true".to_owned(),
            format!("--root-ca-file={pki}/ca.crt"),
            format!("--service-account-private-key-file={pki}/service-account.key"),
            // Held to 20 requests a second it takes five seconds to make its many service accounts.
            "--kube-api-qps=500".to_owned(),
            "--kube-api-burst=1000".to_owned(),
            // 15 s in production, which would be most of the time of a test of autoscaling.
            "--horizontal-pod-autoscaler-sync-period=2s".to_owned(),
            "--profiling=false".to_owned(),
        ]
    }

    pub(crate) fn scheduler(kubeconfig: &Path) -> Vec<String> {
        vec![
            format!("--kubeconfig={}", kubeconfig.display()),
            "--secure-port=0".to_owned(),
            "--leader-elect=false".to_owned(),
            "--profiling=false".to_owned(),
        ]
    }

    /// What every call that changes something left, one JSON object a line; only with nodes.
    pub(crate) fn audit_log(&self) -> PathBuf {
        self.folder.join("audit.log")
    }

    fn with_nodes(&self) -> Vec<String> {
        let pki = self.pki();
        let pki = pki.display();
        vec![
            format!("--kubelet-client-certificate={pki}/kubelet-client.crt"),
            format!("--kubelet-client-key={pki}/kubelet-client.key"),
            // A node's name means nothing to this machine's DNS.
            "--kubelet-preferred-address-types=InternalIP".to_owned(),
            // This machine has no kube-proxy: webhooks and aggregated APIs are called at their Pods.
            "--enable-aggregator-routing=true".to_owned(),
            // 300 s in production, which is how long a Pod stays on a lost node.
            "--default-not-ready-toleration-seconds=5".to_owned(),
            "--default-unreachable-toleration-seconds=5".to_owned(),
            format!(
                "--audit-policy-file={}",
                Path::new(env!("CARGO_MANIFEST_DIR")).join("cluster/config/audit.yaml").display()
            ),
            format!("--audit-log-path={}", self.audit_log().display()),
        ]
    }
}

fn without_nodes() -> Vec<String> {
    // Not --enable-aggregator-routing: it calls aggregated APIs and webhooks at the endpoints
    // of their Service, and an endpoint may not be on loopback. Without it a Service of type
    // ExternalName (`externalName: localhost`) leads to a server in the test process.
    //
    // And without the following it tries every ten seconds to publish 127.0.0.1 as an endpoint, and may not.
    vec!["--endpoint-reconciler-type=none".to_owned()]
}

/// All are bound before any is released, so they differ.
fn free_ports<const COUNT: usize>() -> io::Result<[u16; COUNT]> {
    let mut ports = [0; COUNT];
    let listeners: Vec<TcpListener> =
        (0..COUNT).map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0))).collect::<io::Result<_>>()?;
    for (port, listener) in ports.iter_mut().zip(&listeners) {
        *port = listener.local_addr()?.port();
    }
    Ok(ports)
}
