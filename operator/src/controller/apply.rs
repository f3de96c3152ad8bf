//! Brings the cluster to what was rendered: server-side apply with one field manager, nothing written where nothing differs, Jobs created
//! but never applied, and what is no longer declared deleted.

use std::fmt::Debug;
use std::marker::PhantomData;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::batch::v1::Job;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, Preconditions};
use kube::{Api, Client, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::controller::diff::{covers, stamp};
use crate::controller::error::Error;
use crate::naming::FIELD_MANAGER;
use crate::resources::{Applied, ModelResources, Prepared, TrainingResources, object};

/// Applies the children of one resource.
pub(super) struct Applier {
    client: Client,
    namespace: String,
    /// Selects the children.
    selector: String,
    /// The owner.
    uid: String,
}

/// What is applied: everything but Jobs.
pub(super) trait Child:
    Resource<DynamicType = (), Scope = NamespaceResourceScope> + Serialize + DeserializeOwned + Clone + Debug
{
}

impl<K> Child for K where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Serialize + DeserializeOwned + Clone + Debug
{
}

impl Applier {
    /// For the children with that label of that owner.
    pub(super) fn new(client: Client, namespace: &str, label: (&str, &str), uid: &str) -> Self {
        Self {
            client,
            namespace: namespace.to_owned(),
            selector: format!("{}={}", label.0, label.1),
            uid: uid.to_owned(),
        }
    }

    /// Brings a model's children to what is declared.
    pub(super) async fn model(&self, resources: ModelResources<Prepared>) -> Result<ModelResources<Applied>, Error> {
        let ModelResources {
            cache,
            network_policy,
            deployment,
            service,
            disruption_budget,
            autoscaler,
            state: PhantomData,
        } = resources;
        Ok(ModelResources {
            cache: self.optional(cache).await?,
            network_policy: self.one(network_policy).await?,
            deployment: self.one(deployment).await?,
            service: self.one(service).await?,
            disruption_budget: self.one(disruption_budget).await?,
            autoscaler: self.optional(autoscaler).await?,
            state: PhantomData,
        })
    }

    /// Brings a training's children to what is declared; its Jobs are created when they are due, not here.
    pub(super) async fn training(
        &self,
        resources: TrainingResources<Prepared>,
    ) -> Result<TrainingResources<Applied>, Error> {
        let TrainingResources { workspace, network_policy, jobs, state: PhantomData } = resources;
        Ok(TrainingResources {
            workspace: self.optional(workspace).await?,
            network_policy: self.one(network_policy).await?,
            jobs,
            state: PhantomData,
        })
    }

    /// Creates a Job once. That it exists already is no error if it is ours.
    pub(super) async fn create(&self, job: &Job) -> Result<(), Error> {
        let name = job.name_any();
        let described = describe::<Job>(&name);
        let parameters = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
        match self.api::<Job>().create(&parameters, job).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.is_already_exists() => {
                let existing = self.api::<Job>().get_opt(&name).await.map_err(Error::api("read", &described))?;
                existing.map_or(Ok(()), |existing| self.check_owner(&existing))
            }
            Err(error) => Err(Error::api("create", described)(error)),
        }
    }

    /// Changes `spec.suspend` of a Job.
    pub(super) async fn suspend(&self, name: &str, suspend: bool) -> Result<(), Error> {
        self.merge_job(name, &serde_json::json!({"spec": {"suspend": suspend}})).await
    }

    /// Changes `spec.parallelism` of a Job.
    pub(super) async fn parallelism(&self, name: &str, parallelism: i32) -> Result<(), Error> {
        self.merge_job(name, &serde_json::json!({"spec": {"parallelism": parallelism}})).await
    }

    /// The children of a kind.
    pub(super) async fn children<K: Child>(&self) -> Result<Vec<K>, Error> {
        let parameters = ListParams::default().labels(&self.selector);
        let list = self.api::<K>().list(&parameters).await.map_err(Error::api("list", K::plural(&())))?;
        Ok(list.items.into_iter().filter(|child| self.is_ours(child)).collect())
    }

    async fn merge_job(&self, name: &str, change: &serde_json::Value) -> Result<(), Error> {
        let parameters = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
        let patched = self.api::<Job>().patch(name, &parameters, &Patch::Merge(change)).await;
        patched.map(|_| ()).map_err(Error::api("change", describe::<Job>(name)))
    }

    async fn one<K: Child>(&self, declared: K) -> Result<K, Error> {
        let children = self.children::<K>().await?;
        let applied = self.apply(declared, &children).await?;
        self.prune(&children, Some(&applied.name_any())).await?;
        Ok(applied)
    }

    async fn optional<K: Child>(&self, declared: Option<K>) -> Result<Option<K>, Error> {
        if let Some(declared) = declared {
            return self.one(declared).await.map(Some);
        }
        let children = self.children::<K>().await?;
        self.prune(&children, None).await.map(|()| None)
    }

    async fn apply<K: Child>(&self, declared: K, children: &[K]) -> Result<K, Error> {
        let name = declared.name_any();
        let declared = stamp(object(&declared));
        match children.iter().find(|child| child.name_any() == name) {
            Some(live) if covers(&object(live), &declared) => return Ok(live.clone()),
            Some(_) => {}
            None => self.check_name_is_free::<K>(&name).await?,
        }
        let parameters = PatchParams::apply(FIELD_MANAGER).force();
        tracing::info!(kind = %K::kind(&()), %name, "applying");
        let applied = self.api::<K>().patch(&name, &parameters, &Patch::Apply(&declared)).await;
        applied.map_err(Error::api("apply", describe::<K>(&name)))
    }

    /// Server-side apply would take over an object that someone else made.
    async fn check_name_is_free<K: Child>(&self, name: &str) -> Result<(), Error> {
        let existing = self.api::<K>().get_opt(name).await.map_err(Error::api("read", describe::<K>(name)))?;
        existing.map_or(Ok(()), |existing| self.check_owner(&existing))
    }

    fn check_owner<K: Child>(&self, existing: &K) -> Result<(), Error> {
        let object = describe::<K>(&existing.name_any());
        match (self.is_ours(existing), existing.meta().deletion_timestamp.is_some()) {
            (_, true) => Err(Error::BeingDeleted { object }),
            (false, false)
                if existing.labels().get("app.kubernetes.io/managed-by").is_some_and(|by| by == FIELD_MANAGER) =>
            {
                // The garbage collector removes what an earlier resource of that name left.
                Err(Error::BeingDeleted { object })
            }
            (false, false) => Err(Error::NameTaken { object }),
            (true, false) => Ok(()),
        }
    }

    async fn prune<K: Child>(&self, children: &[K], declared: Option<&str>) -> Result<(), Error> {
        for child in children {
            let name = child.name_any();
            if Some(name.as_str()) == declared || child.meta().deletion_timestamp.is_some() {
                continue;
            }
            tracing::info!(kind = %K::kind(&()), %name, "deleting");
            let preconditions = Some(Preconditions { uid: child.uid(), resource_version: None });
            let parameters = DeleteParams { preconditions, ..DeleteParams::background() };
            match self.api::<K>().delete(&name, &parameters).await {
                Ok(_) => {}
                Err(kube::Error::Api(status)) if status.is_not_found() => {}
                Err(error) => return Err(Error::api("delete", describe::<K>(&name))(error)),
            }
        }
        Ok(())
    }

    fn is_ours<K: Child>(&self, child: &K) -> bool {
        child.owner_references().iter().any(|owner| owner.uid == self.uid)
    }

    fn api<K: Child>(&self) -> Api<K> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }
}

fn describe<K: Child>(name: &str) -> String {
    format!("{} {name}", K::kind(&()))
}
