//! Volumes: the storage class `shared-folder`, whose every volume is a folder of this machine.
//!
//! All nodes run on one machine and see its files, so such a volume is `ReadWriteMany`: what a network file system
//! is to a real cluster. kubelet does not change the owner of a hostPath volume, so the folder is everyone's to write.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use kube::{
    Api, Client, Config, ResourceExt,
    api::{ListParams, PostParams},
};
use serde_json::{Value, json};
use tokio::sync::oneshot;

use crate::{ControlPlane, Error};

const CLASS: &str = "shared-folder";
const PAUSE: Duration = Duration::from_millis(200);

/// Makes a volume for every claim of the class, as long as it lives.
#[derive(Debug)]
pub(crate) struct SharedFolders {
    /// Dropped with this, which ends the thread.
    _stop: oneshot::Sender<()>,
}

impl SharedFolders {
    /// Starts it, on a thread of its own: tests have each a runtime that ends with them.
    pub(crate) fn start(control_plane: &ControlPlane) -> Result<Self, Error> {
        let (config, folder) = (control_plane.config().clone(), folder(control_plane));
        fs::create_dir(&folder).map_err(Error::io("create the folder of volumes"))?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(Error::io("start the runtime that makes volumes"))?;
        let (stop, stopped) = oneshot::channel();
        thread::spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    _ = stopped => {}
                    () = serve(config, &folder) => {}
                }
            });
        });
        Ok(Self { _stop: stop })
    }
}

fn folder(control_plane: &ControlPlane) -> PathBuf {
    control_plane.folder().join("volumes")
}

pub(crate) fn folder_of_claim(control_plane: &ControlPlane, namespace: &str, claim: &str) -> PathBuf {
    folder(control_plane).join(namespace).join(claim)
}

/// The class, which is the cluster's default.
pub(crate) fn storage_class() -> Value {
    json!({
        "apiVersion": "storage.k8s.io/v1", "kind": "StorageClass",
        "metadata": {"name": CLASS, "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}},
        "provisioner": "cllm.test/shared-folder",
    })
}

async fn serve(config: Config, folder: &Path) {
    let Ok(client) = Client::try_from(config) else { return };
    loop {
        // What fails now is tried again in a moment; a claim that never gets its volume fails the test that wants it.
        if let Ok(claims) = Api::<PersistentVolumeClaim>::all(client.clone()).list(&ListParams::default()).await {
            for claim in claims.iter().filter(|claim| is_waiting(claim)) {
                let _ = provide(&client, folder, claim).await;
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}

fn is_waiting(claim: &PersistentVolumeClaim) -> bool {
    let is_ours = |class: &str| class == CLASS;
    claim.spec.as_ref().is_some_and(|spec| {
        spec.storage_class_name.as_deref().is_some_and(is_ours) && spec.volume_name.as_deref().unwrap_or("").is_empty()
    })
}

async fn provide(client: &Client, folder: &Path, claim: &PersistentVolumeClaim) -> anyhow::Result<()> {
    let (namespace, name) = (claim.namespace().unwrap_or_default(), claim.name_any());
    let path = folder.join(&namespace).join(&name);
    make_folder(&path)?;
    let volume: PersistentVolume = serde_json::from_value(volume(claim, &namespace, &name, &path))?;
    Api::all(client.clone()).create(&PostParams::default(), &volume).await?;
    Ok(())
}

fn make_folder(path: &PathBuf) -> std::io::Result<()> {
    fs::create_dir_all(path)?;
    fs::set_permissions(path, Permissions::from_mode(0o777))
}

fn volume(claim: &PersistentVolumeClaim, namespace: &str, name: &str, path: &Path) -> Value {
    json!({
        "metadata": {"name": format!("{namespace}-{name}")},
        "spec": {
            "capacity": {"storage": "1Ti"},
            "accessModes": claim.spec.as_ref().map(|spec| &spec.access_modes),
            "persistentVolumeReclaimPolicy": "Retain",
            "storageClassName": CLASS,
            "claimRef": {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "namespace": namespace, "name": name, "uid": claim.uid()},
            "hostPath": {"path": path},
        },
    })
}
