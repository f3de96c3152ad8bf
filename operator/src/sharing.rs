//! Whether Pods that run at once can use their claims from several nodes: many volumes can be mounted on one node only, and then the
//! Pods on the others wait for ever.

use std::collections::{BTreeMap, BTreeSet};

use cllm_crds::conditions::{reasons, types};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, PodSpec};
use kube::ResourceExt;

use crate::conditions::{Conditions, Truth};

/// Pods that are alike and run at once.
#[derive(Clone, Debug, PartialEq)]
pub struct Replicated {
    /// What each of them is.
    pub pod: PodSpec,
    /// How many there may be.
    pub pods_at_once: u32,
    /// The path of the field that says so.
    pub field: &'static str,
}

impl Replicated {
    /// The claims that they share by name, each with whether it is only read; none if one Pod runs at a time.
    pub fn claims(&self) -> BTreeMap<String, bool> {
        let containers = self.pod.containers.iter();
        let mounts: Vec<_> = containers.flat_map(|container| container.volume_mounts.iter().flatten()).collect();
        let is_read = |volume: &str| {
            mounts.iter().filter(|mount| mount.name == volume).all(|mount| mount.read_only == Some(true))
        };
        let volumes = self.pod.volumes.iter().flatten().filter(|_| self.pods_at_once > 1);
        volumes
            .filter_map(|volume| {
                Some((volume.persistent_volume_claim.as_ref()?.claim_name.clone(), is_read(&volume.name)))
            })
            .collect()
    }
}

/// The condition `StorageShared`, where it applies. `claims` are those that exist.
pub(crate) fn set_shared(conditions: &mut Conditions, replicated: &[Replicated], claims: &[PersistentVolumeClaim]) {
    let used: BTreeSet<_> = replicated.iter().flat_map(|pods| pods.claims().into_keys()).collect();
    if used.is_empty() {
        return conditions.remove(types::STORAGE_SHARED);
    }
    let held: Vec<_> = replicated.iter().filter_map(|pods| held_on_one_node(pods, claims)).collect();
    if !held.is_empty() {
        let message = format!(
            "{} Use claims with ReadWriteMany, or s3://, or keep the Pods on one node (nodeSelector, affinity), or let one run at a time.",
            held.join(" ")
        );
        return conditions.set(types::STORAGE_SHARED, false, reasons::ONE_NODE_ONLY, message);
    }
    if let Some(missing) = used.iter().find(|name| find(claims, name).is_none()) {
        let message = format!("Claim {missing} does not exist.");
        conditions.set(types::STORAGE_SHARED, Truth::Unknown, reasons::CLAIM_NOT_FOUND, message);
    } else {
        let message = "Every claim that the Pods share can be used from several nodes.";
        conditions.set(types::STORAGE_SHARED, true, reasons::AS_DECLARED, message);
    }
}

/// What holds Pods that run at once on one node, in a sentence.
fn held_on_one_node(pods: &Replicated, claims: &[PersistentVolumeClaim]) -> Option<String> {
    let used = pods.claims();
    let for_one_node = used.iter().filter_map(|(name, is_read)| {
        let modes = access_modes(find(claims, name)?);
        (!is_for_several_nodes(&modes, *is_read)).then(|| format!("{name} ({})", modes.join(", ")))
    });
    let for_one_node: Vec<_> = for_one_node.collect();
    let Replicated { pod: _, pods_at_once, field } = pods;
    (!for_one_node.is_empty()).then(|| {
        let shared = for_one_node.join(", ");
        format!("{field} lets {pods_at_once} Pods run at once, and one node only may use what they share: {shared}.")
    })
}

fn find<'a>(claims: &'a [PersistentVolumeClaim], name: &str) -> Option<&'a PersistentVolumeClaim> {
    claims.iter().find(|claim| claim.name_any() == name)
}

/// Those of the volume, once there is one.
fn access_modes(claim: &PersistentVolumeClaim) -> Vec<String> {
    let bound = claim.status.as_ref().and_then(|status| status.access_modes.clone());
    let asked = || claim.spec.as_ref().and_then(|spec| spec.access_modes.clone());
    bound.filter(|modes| !modes.is_empty()).or_else(asked).unwrap_or_default()
}

fn is_for_several_nodes(modes: &[String], is_read: bool) -> bool {
    modes.iter().any(|mode| mode == "ReadWriteMany" || (is_read && mode == "ReadOnlyMany"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::jiff::Timestamp;
    use serde_json::json;

    fn pod() -> PodSpec {
        serde_json::from_value(json!({
            "containers": [{"name": "trainer", "volumeMounts": [
                {"name": "claim-0", "mountPath": "/claims/data", "readOnly": true}, {"name": "workspace", "mountPath": "/workspace"},
            ]}],
            "volumes": [
                {"name": "claim-0", "persistentVolumeClaim": {"claimName": "data"}},
                {"name": "workspace", "persistentVolumeClaim": {"claimName": "work"}}, {"name": "tmp", "emptyDir": {}},
            ],
        }))
        .unwrap()
    }

    fn claim(name: &str, mode: &str) -> PersistentVolumeClaim {
        let spec = json!({"accessModes": [mode]});
        serde_json::from_value(json!({"metadata": {"name": name}, "spec": spec})).unwrap()
    }

    fn word([shards, workers]: [u32; 2], claims: &[PersistentVolumeClaim]) -> Option<(String, String, String)> {
        let mut conditions = Conditions::from_previous(&[], None, Timestamp::UNIX_EPOCH);
        let replicated = |pods_at_once, field| Replicated { pod: pod(), pods_at_once, field };
        let stages =
            [replicated(shards, "spec.trajectories.parallelism"), replicated(workers, "spec.training.workers")];
        set_shared(&mut conditions, &stages, claims);
        let found = conditions.get("StorageShared")?;
        Some((found.status.clone(), found.reason.clone(), found.message.clone()))
    }

    #[test]
    fn what_is_written_needs_more_than_what_is_read() {
        for (data, work, wanted) in [
            ("ReadOnlyMany", "ReadWriteMany", ("True", "AsDeclared", "")),
            ("ReadWriteMany", "ReadOnlyMany", ("False", "OneNodeOnly", "work (ReadOnlyMany)")),
            ("ReadWriteOnce", "ReadWriteMany", ("False", "OneNodeOnly", "data (ReadWriteOnce)")),
        ] {
            let (status, reason, message) = word([2, 1], &[claim("data", data), claim("work", work)]).unwrap();
            assert_eq!((status.as_str(), reason.as_str()), (wanted.0, wanted.1), "{data} {work}");
            assert!(message.contains(wanted.2), "{message}");
        }
    }

    #[test]
    fn a_bound_claim_is_judged_by_its_volume_and_a_missing_one_is_not() {
        let mut bound = claim("work", "ReadWriteMany");
        bound.status = Some(serde_json::from_value(json!({"accessModes": ["ReadWriteOnce"]})).unwrap());
        assert_eq!(word([2, 1], &[claim("data", "ReadWriteMany"), bound]).unwrap().0, "False");
        let (status, reason, message) = word([2, 1], &[claim("data", "ReadWriteMany")]).unwrap();
        assert_eq!((status.as_str(), reason.as_str()), ("Unknown", "ClaimNotFound"));
        assert!(message.contains("work"), "{message}");
    }

    #[test]
    fn one_pod_at_a_time_shares_nothing() {
        assert_eq!(word([1, 1], &[claim("data", "ReadWriteOnce")]), None);
    }

    #[test]
    fn each_stage_with_several_pods_is_named() {
        let claims = [claim("data", "ReadWriteMany"), claim("work", "ReadWriteOnce")];
        let (shards, workers) = ("spec.trajectories.parallelism lets 4 Pods", "spec.training.workers lets 2 Pods");
        for (pods, expected) in [([4, 1], [true, false]), ([1, 2], [false, true]), ([4, 2], [true, true])] {
            let (status, _, message) = word(pods, &claims).unwrap();
            assert_eq!((status.as_str(), [message.contains(shards), message.contains(workers)]), ("False", expected));
            assert_eq!(message.matches("Use claims with ReadWriteMany").count(), 1, "{message}");
        }
    }
}
