//! Brings the cluster to what was rendered: server-side apply with one field manager, nothing written where nothing differs, Jobs created
//! but never applied, and what is no longer declared deleted.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::marker::PhantomData;

use futures::future::try_join_all;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Service};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, Preconditions};
use kube::{Api, Client, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::controller::diff::{covers, stamp};
use crate::controller::error::Error;
use crate::naming::{FIELD_MANAGER, OwnerKey, Ownership, ownership};
use crate::resources::{Applied, ModelResources, Prepared, TrainingResources, object};
use crate::sharing::Replicated;

/// Applies the children of one resource.
pub(super) struct Applier {
    client: Client,
    namespace: String,
    /// Selects the children.
    selector: String,
    owner: OwnerKey,
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
    /// For the children of that owner.
    pub(super) fn new(client: Client, namespace: &str, owner: OwnerKey) -> Self {
        let selector = format!("{}={}", owner.label, owner.name);
        Self { client, namespace: namespace.to_owned(), selector, owner }
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
        let TrainingResources { workspace, network_policy, service, jobs, state: PhantomData } = resources;
        Ok(TrainingResources {
            workspace: self.optional(workspace).await?,
            network_policy: self.one(network_policy).await?,
            service: self.optional(service).await?,
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
                self.find_own::<Job>(&name).await.map(|_| ())
            }
            Err(error) => Err(Error::api("create", described)(error)),
        }
    }

    /// Changes fields of a Job.
    pub(super) async fn change(&self, name: &str, change: &Value) -> Result<(), Error> {
        tracing::info!(job = %name, %change, "changing");
        let parameters = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
        let patched = self.api::<Job>().patch(name, &parameters, &Patch::Merge(change)).await;
        patched.map(|_| ()).map_err(Error::api("change", describe::<Job>(name)))
    }

    /// The children of a kind, also those whose owner reference was removed.
    pub(super) async fn children<K: Child>(&self) -> Result<Vec<K>, Error> {
        let parameters = ListParams::default().labels(&self.selector);
        let list = self.api::<K>().list(&parameters).await.map_err(Error::api("list", K::plural(&())))?;
        let is_ours = |child: &K| matches!(self.ownership(child), Ownership::Ours | Ownership::Stripped);
        Ok(list.items.into_iter().filter(is_ours).collect())
    }

    /// The claims that Pods which run at once share, those that exist; whose they are does not matter.
    pub(super) async fn claims(&self, replicated: &[Replicated]) -> Result<Vec<PersistentVolumeClaim>, Error> {
        let api = self.api::<PersistentVolumeClaim>();
        let names: BTreeSet<_> = replicated.iter().flat_map(|pods| pods.claims().into_keys()).collect();
        let claims = names.iter().map(async |name| {
            api.get_opt(name).await.map_err(Error::api("read", describe::<PersistentVolumeClaim>(name)))
        });
        Ok(try_join_all(claims).await?.into_iter().flatten().collect())
    }

    /// Deletes the Jobs, the Service of their Pods and the claim of a training that has ended.
    pub(super) async fn remove_workings(&self) -> Result<(), Error> {
        self.prune(&self.children::<Job>().await?, None).await?;
        self.prune(&self.children::<Service>().await?, None).await?;
        self.prune(&self.children::<PersistentVolumeClaim>().await?, None).await
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
        let mut declared = stamp(object(&declared));
        let known = children.iter().find(|child| child.name_any() == name);
        if let Some(live) = known.filter(|live| covers(&object(*live), &declared)) {
            return Ok(live.clone());
        }
        let found = match known {
            Some(known) => Some(known.clone()),
            // It may have lost the label by which children are listed.
            None => self.find_own::<K>(&name).await?,
        };
        let parameters = PatchParams::apply(FIELD_MANAGER);
        let parameters = match &found {
            Some(live) => {
                // Another object that took the name meanwhile is refused.
                declared["metadata"]["uid"] = json!(live.uid());
                parameters.force()
            }
            // Without force what someone else made meanwhile is not taken over.
            None => parameters,
        };
        tracing::info!(kind = %K::kind(&()), %name, "applying");
        let applied = self.api::<K>().patch(&name, &parameters, &Patch::Apply(&declared)).await;
        applied.map_err(Error::api("apply", describe::<K>(&name)))
    }

    /// The object of that name, if there is one and it is ours.
    async fn find_own<K: Child>(&self, name: &str) -> Result<Option<K>, Error> {
        let existing = self.api::<K>().get_opt(name).await.map_err(Error::api("read", describe::<K>(name)))?;
        existing.map(|existing| self.check_owner(&existing).map(|()| existing)).transpose()
    }

    fn check_owner<K: Child>(&self, existing: &K) -> Result<(), Error> {
        let object = describe::<K>(&existing.name_any());
        if existing.meta().deletion_timestamp.is_some() {
            return Err(Error::BeingDeleted { object });
        }
        match self.ownership(existing) {
            Ownership::Ours | Ownership::Stripped => Ok(()),
            // The garbage collector removes what an earlier resource of that name left.
            Ownership::Predecessors => Err(Error::BeingDeleted { object }),
            Ownership::Foreign => Err(Error::NameConflict { object }),
        }
    }

    fn ownership<K: Child>(&self, existing: &K) -> Ownership {
        ownership(existing.meta(), &self.owner)
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

    fn api<K: Child>(&self) -> Api<K> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }
}

fn describe<K: Child>(name: &str) -> String {
    format!("{} {name}", K::kind(&()))
}
