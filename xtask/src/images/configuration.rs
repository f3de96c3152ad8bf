//! What an image says about itself and how a container of it starts; the same in archives and Dockerfiles.

use std::collections::BTreeMap;

use super::description::{Description, Image};
use super::root_file_system::BINARY_FOLDER;

/// User, environment, entry point, ports and labels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Configuration {
    /// `USER:GROUP`, as numbers: only so can a kubelet see that it is not root.
    pub(crate) user: String,
    pub(crate) environment: BTreeMap<&'static str, String>,
    pub(crate) entry_point: String,
    /// `PORT/tcp`.
    pub(crate) ports: Vec<String>,
    pub(crate) working_folder: &'static str,
    /// The annotations of OCI that are known before a build.
    pub(crate) labels: BTreeMap<&'static str, String>,
}

impl Configuration {
    /// Of one image in this version of the project.
    pub(crate) fn of_image(description: &Description, image: &Image) -> Self {
        let user = description.user;
        let labels = [
            ("org.opencontainers.image.title", image.name.as_str()),
            ("org.opencontainers.image.description", &image.description),
            ("org.opencontainers.image.version", env!("CARGO_PKG_VERSION")),
            ("org.opencontainers.image.source", env!("CARGO_PKG_REPOSITORY")),
            ("org.opencontainers.image.licenses", env!("CARGO_PKG_LICENSE")),
        ];
        Self {
            user: format!("{user}:{user}"),
            environment: environment(image),
            entry_point: image.binary.clone(),
            ports: image.ports.iter().map(|port| format!("{port}/tcp")).collect(),
            working_folder: "/",
            labels: labels.map(|(key, value)| (key, value.to_owned())).into(),
        }
    }
}

/// Where programs are found; with CUDA also where nodes put their driver, and what of it is asked for.
fn environment(image: &Image) -> BTreeMap<&'static str, String> {
    let mut environment = BTreeMap::from([("PATH", format!("{BINARY_FOLDER}:/usr/bin:/bin"))]);
    if image.cuda {
        environment.insert("LD_LIBRARY_PATH", "/usr/local/nvidia/lib64:/usr/lib64".to_owned());
        environment.insert("NVIDIA_DRIVER_CAPABILITIES", "compute,utility".to_owned());
    }
    environment
}
