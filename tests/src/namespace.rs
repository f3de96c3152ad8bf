//! A namespace for one test.

use std::{thread, time::Duration};

use k8s_openapi::{
    NamespaceResourceScope,
    api::core::v1::{Namespace, ServiceAccount},
};
use kube::{
    Api, Client, Config, Resource,
    api::{DeleteParams, ObjectMeta, Patch, PatchParams, PostParams},
};
use serde_json::json;

use crate::{ControlPlane, Error, eventually_object};

/// A namespace with a generated name, deleted when dropped.
///
/// Nothing waits for the deletion, and a failed one is ignored: the next test has a namespace of
/// its own, and in the end the whole cluster goes.
pub struct TestNamespace {
    name: String,
    client: Client,
    config: Config,
}

impl TestNamespace {
    /// Creates `prefix-xxxxx` and waits until pods can be created in it.
    pub async fn create(cluster: &ControlPlane, prefix: &str) -> Result<Self, Error> {
        Self::with_labels(cluster, prefix, &[]).await
    }

    /// Like [`Self::create`], and refuses every pod that breaks the `restricted` pod security
    /// standard. A workload whose pod template breaks it is accepted with a warning.
    pub async fn create_restricted(cluster: &ControlPlane, prefix: &str) -> Result<Self, Error> {
        let labels = ["enforce", "warn"].map(|mode| (format!("pod-security.kubernetes.io/{mode}"), "restricted"));
        Self::with_labels(cluster, prefix, &labels).await
    }

    async fn with_labels(cluster: &ControlPlane, prefix: &str, labels: &[(String, &str)]) -> Result<Self, Error> {
        let (client, config) = (cluster.client()?, cluster.config().clone());
        let labels = labels.iter().map(|(key, value)| (key.clone(), (*value).to_owned())).collect();
        let metadata =
            ObjectMeta { generate_name: Some(format!("{prefix}-")), labels: Some(labels), ..Default::default() };
        let created = Api::<Namespace>::all(client.clone())
            .create(&PostParams::default(), &Namespace { metadata, ..Default::default() })
            .await
            .map_err(Error::request(format!("create a namespace `{prefix}-…`")))?;
        let namespace = Self { name: created.metadata.name.unwrap_or_default(), client, config };
        namespace.usable().await?;
        Ok(namespace)
    }

    /// The API server refuses pods until the controller manager has made their service account.
    async fn usable(&self) -> Result<(), Error> {
        let what = format!("the default service account of {}", self.name);
        let accounts = self.api::<ServiceAccount>();
        Ok(eventually_object(&accounts, "default", &what, Duration::from_secs(30), |_| Some(())).await?)
    }

    /// Sets a label of the namespace itself.
    pub async fn label(&self, key: &str, value: &str) -> Result<(), Error> {
        let patch = Patch::Merge(json!({"metadata": {"labels": {key: value}}}));
        let namespaces = Api::<Namespace>::all(self.client.clone());
        let labelled = namespaces.patch(&self.name, &PatchParams::default(), &patch).await;
        labelled.map(|_| ()).map_err(Error::request(format!("label the namespace {}", self.name)))
    }

    /// The generated name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The client of this test, with the rights of a cluster administrator.
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// The objects of one kind in this namespace.
    pub fn api<K>(&self) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        Api::namespaced(self.client.clone(), &self.name)
    }
}

impl Drop for TestNamespace {
    fn drop(&mut self) {
        let (name, config) = (self.name.clone(), self.config.clone());
        // A runtime of its own: the test's may be ending, and cannot be waited for from inside.
        let deletion = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
            runtime.block_on(async {
                let namespaces = Api::<Namespace>::all(Client::try_from(config).ok()?);
                namespaces.delete(&name, &DeleteParams::default()).await.ok()
            })
        });
        let _ = deletion.join();
    }
}
