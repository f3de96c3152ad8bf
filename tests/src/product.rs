//! cllm as people install and use it: the chart, and the example with its data in claims.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::api::PostParams;
use serde_json::json;
use tokio::process::Command;

use crate::{Cluster, Error, TestNamespace, audit::Write, eventually, eventually_object, programs};

const SOON: Duration = Duration::from_secs(60);

/// The release of the chart.
pub const RELEASE: &str = "cllm";

/// The installed chart, in a namespace that enforces pod security "restricted".
pub struct Product<'a> {
    cluster: &'a Cluster,
    namespace: TestNamespace,
}

impl<'a> Product<'a> {
    /// Installs the chart with these `--set` values and waits until it is ready.
    pub async fn install(cluster: &'a Cluster, values: &[&str]) -> Result<Self, Error> {
        let namespace = TestNamespace::create_restricted(cluster.control_plane(), "system").await?;
        let product = Self { cluster, namespace };
        product.helm("install", values).await?;
        Ok(product)
    }

    /// The same by somebody else, who has a role in the namespace of the release and none in the cluster.
    pub async fn install_as(
        cluster: &'a Cluster,
        namespace: TestNamespace,
        user: &str,
        values: &[&str],
    ) -> Result<Self, Error> {
        let product = Self { cluster, namespace };
        product.helm_with("install", values, &["--kube-as-user", user]).await?;
        Ok(product)
    }

    /// Upgrades the release to these `--set` values and waits until it is ready.
    pub async fn upgrade(&self, values: &[&str]) -> Result<(), Error> {
        self.helm("upgrade", values).await
    }

    /// Goes back to that revision of the release and waits until it is ready.
    pub async fn roll_back(&self, revision: &str) -> Result<(), Error> {
        let arguments = ["rollback", RELEASE, revision, "-n", self.namespace(), "--wait", "--timeout=2m"];
        self.cluster.control_plane().helm(&arguments).await.map(|_| ())
    }

    async fn helm(&self, command: &str, values: &[&str]) -> Result<(), Error> {
        self.helm_with(command, values, &[]).await
    }

    async fn helm_with(&self, command: &str, values: &[&str], others: &[&str]) -> Result<(), Error> {
        let chart = chart();
        let mut arguments = vec![command, RELEASE, &chart, "-n", self.namespace()];
        arguments.extend(["--set", "images.pullPolicy=Never", "--wait", "--timeout=2m"]);
        arguments.extend(others);
        arguments.extend(values.iter().flat_map(|value| ["--set", value]));
        self.cluster.control_plane().helm(&arguments).await.map(|_| ())
    }

    /// Runs `helm test`.
    pub async fn test(&self) -> Result<(), Error> {
        self.cluster.control_plane().helm(&["test", RELEASE, "-n", self.namespace(), "--timeout=1m"]).await.map(|_| ())
    }

    /// Uninstalls the release.
    pub async fn uninstall(&self) -> Result<(), Error> {
        self.cluster.control_plane().helm(&["uninstall", RELEASE, "-n", self.namespace(), "--wait"]).await.map(|_| ())
    }

    /// What the operator has changed so far, in its order.
    pub fn writes(&self) -> Result<Vec<Write>, Error> {
        self.cluster.control_plane().writes_of(&format!("system:serviceaccount:{}:cllm-operator", self.namespace()))
    }

    /// Waits until nothing of the product is left in the cluster but its definitions.
    pub async fn only_the_definitions_are_left(&self) -> Result<(), Error> {
        // The APIService of a definition's version is the API server's own, and goes with the definition.
        let kinds = "clusterroles,clusterrolebindings,validatingwebhookconfigurations,mutatingwebhookconfigurations,\
                     customresourcedefinitions,priorityclasses";
        let wanted = ["cllmmodels", "cllmtrainings"]
            .map(|name| format!("customresourcedefinition.apiextensions.k8s.io/{name}.cllm.dev"));
        eventually("nothing but the definitions to be left", SOON, async || {
            let names = self.cluster.control_plane().kubectl(&["get", kinds, "-o", "name"]).await;
            let names = names.map_err(|error| error.to_string())?;
            // That of the metrics is ours alone, and was not made by helm.
            let services = self.cluster.control_plane().kubectl(&["get", "apiservices", "-o", "name"]).await;
            let services = services.map_err(|error| error.to_string())?;
            let metrics = services.stdout.lines().filter(|name| name.ends_with(".custom.metrics.k8s.io"));
            let ours: Vec<_> = names.stdout.lines().filter(|name| name.contains("cllm")).chain(metrics).collect();
            if ours == wanted { Ok(()) } else { Err(ours.join(", ")) }
        })
        .await?;
        Ok(())
    }

    /// Where the release is, as tests use it.
    pub fn test_namespace(&self) -> &TestNamespace {
        &self.namespace
    }

    /// The namespace of the release.
    pub fn namespace(&self) -> &str {
        self.namespace.name()
    }
}

/// The folder of this repository.
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// All YAML files below a folder, in the order of their paths.
pub fn yaml_files(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    let (mut found, mut folders) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "yaml") {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

/// The folder of the chart.
pub fn chart() -> String {
    repository().join("charts/cllm").display().to_string()
}

/// The YAML that a page of the documentation tells people to apply.
pub fn yaml_of_page(name: &str) -> Result<String, Error> {
    let page =
        fs::read_to_string(repository().join("docs").join(name)).map_err(Error::io(format!("read docs/{name}")))?;
    let blocks = page.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next());
    Ok(blocks.collect::<Vec<_>>().join("---\n"))
}

/// The CRD of the Prometheus operator's `ServiceMonitor`, as its project publishes it.
pub async fn service_monitor_definition() -> Result<PathBuf, Error> {
    Ok(programs::folder(&["definitions"]).await?.join("servicemonitors.yaml"))
}

/// A binary of the workspace: they lie beside the folder of the tests.
pub fn binary(name: &str) -> Result<PathBuf, Error> {
    let test = env::current_exe().map_err(Error::io("find the running test"))?;
    let path = test.parent().and_then(Path::parent).map(|folder| folder.join(name)).filter(|path| path.exists());
    path.ok_or_else(|| Error::NoBinary { name: name.to_owned() })
}

/// Makes a claim and waits for its folder on this machine.
pub async fn claim(cluster: &Cluster, namespace: &TestNamespace, name: &str) -> Result<PathBuf, Error> {
    let claim: PersistentVolumeClaim = serde_json::from_value(json!({
        "metadata": {"name": name},
        "spec": {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "1Gi"}}},
    }))
    .unwrap_or_default();
    let claims = namespace.api::<PersistentVolumeClaim>();
    claims.create(&PostParams::default(), &claim).await.map_err(Error::request(format!("create the claim {name}")))?;
    eventually_object(&claims, name, "the claim to be bound", SOON, |claim: &PersistentVolumeClaim| {
        (claim.status.as_ref()?.phase.as_deref() == Some("Bound")).then_some(())
    })
    .await?;
    Ok(cluster.folder_of_claim(namespace.name(), name))
}

/// The claims that `examples/text2sql` names: `text2sql` with its target and a little of its data, and an empty `models`.
///
/// `generator` is the binary `text2sql-data`.
pub async fn fill_example(cluster: &Cluster, namespace: &TestNamespace, generator: &Path) -> Result<(), Error> {
    fill_example_with(cluster, namespace, generator, &["--train=2000", "--dev=100", "--test=200"]).await
}

/// The same with as much data as these arguments of `text2sql-data` say.
pub async fn fill_example_with(
    cluster: &Cluster,
    namespace: &TestNamespace,
    generator: &Path,
    sizes: &[&str],
) -> Result<(), Error> {
    claim(cluster, namespace, "models").await?;
    let folder = claim(cluster, namespace, "text2sql").await?;
    copy_target(&folder.join("target")).map_err(Error::io("copy the example's target"))?;
    let output = Command::new(generator)
        .args(sizes)
        .arg("--output")
        .arg(folder.join("data"))
        .stdin(Stdio::null())
        .output()
        .await
        .map_err(Error::io("run text2sql-data"))?;
    if output.status.success() {
        return Ok(());
    }
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    Err(Error::Program { name: "text2sql-data", arguments: String::new(), status: output.status, stderr })
}

fn copy_target(to: &Path) -> std::io::Result<()> {
    fs::create_dir(to)?;
    for entry in fs::read_dir(repository().join("examples/text2sql/target"))? {
        let entry = entry?;
        fs::copy(entry.path(), to.join(entry.file_name()))?;
    }
    Ok(())
}
