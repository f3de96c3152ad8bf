//! Checkpoints and data from a hub, S3 and a registry, and results into S3, in real Pods.

use std::{fs, path::Path, time::Duration};

use anyhow::{Context, ensure};
use cllm_tests::{
    Cluster, TestNamespace, eventually,
    product::{Product, repository},
    sources::{ACCESS_KEY, COMMIT, Files, Hub, Mishap, PASSWORD, Pusher, SECRET_KEY, USERNAME, Wire, registry, s3},
};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use serde_json::{Value, json};

use crate::{
    load::answer,
    scenario::{
        SOON, cluster, completed, create_model, create_training, digest, is_true, kill_pod, model_is, model_is_ready,
        patch_model, replicas, service_url, team, write_keys,
    },
};

pub(crate) const TOKEN: &str = "hidden-hub-token";
/// From here on a wire is slow, until somebody has seen how far the download is.
const SWIFT: u64 = 1 << 20;

/// The example's target.
pub(crate) fn checkpoint() -> anyhow::Result<Files> {
    let entries = fs::read_dir(repository().join("examples/text2sql/target"))?;
    entries
        .map(|entry| {
            let path = entry?.path();
            let name = path.file_name().context("a file without a name")?.to_string_lossy().into_owned();
            Ok((name, fs::read(path)?))
        })
        .collect()
}

pub(crate) fn s3_keys(secret_key: &str) -> Value {
    json!({"accessKeyId": ACCESS_KEY, "secretAccessKey": secret_key})
}

/// Where a checkpoint comes from, slowly at first, and how much of it was asked for so far.
struct Source<'a> {
    model: Value,
    release: &'a dyn Fn(),
    fetched: &'a dyn Fn() -> u64,
    /// What asking whether it is still the same may add.
    allowance: u64,
}

#[tokio::test]
#[ignore = "minutes: make e2e"]
async fn a_private_checkpoint_of_a_hub_s3_or_a_registry_is_fetched_once_and_served() -> anyhow::Result<()> {
    let cluster = cluster(1).await?;
    let _product = Product::install(&cluster, &[]).await?;
    from_a_hub(&cluster).await.context("hub")?;
    from_s3(&cluster).await.context("S3")?;
    from_a_registry(&cluster).await.context("registry")
}

async fn from_a_hub(cluster: &Cluster) -> anyhow::Result<()> {
    let hub = Hub::start_at(cluster.address(), checkpoint()?).await;
    hub.require_token(TOKEN);
    // The small files may come first: every answer is held.
    hub.will((0..12).map(|_| Mishap::Hold(1 << 20)));
    let namespace = TestNamespace::create_restricted(cluster.control_plane(), "hub").await?;
    write_keys(&namespace, "Secret", "access", json!({"token": TOKEN})).await?;
    let uri = format!("hf://org/name@{COMMIT}");
    let source = Source {
        model: json!({"uri": uri, "endpoint": hub.endpoint, "secretRef": {"name": "access"}}),
        release: &|| hub.release(),
        fetched: &|| hub.asked("model.safetensors").len() as u64,
        allowance: 0,
    };
    served(cluster, &namespace, source).await
}

async fn from_s3(cluster: &Cluster) -> anyhow::Result<()> {
    let server = s3(cluster.address()).await?;
    let wire = Wire::start(cluster.address(), server.address(), SWIFT).await?;
    write(&server.folder().join("buckets/bucket/models/text2sql"), &checkpoint()?)?;
    let namespace = TestNamespace::create_restricted(cluster.control_plane(), "s3").await?;
    write_keys(&namespace, "Secret", "access", s3_keys(SECRET_KEY)).await?;
    let endpoint = format!("http://{}", wire.address());
    let source = Source {
        model: json!({"uri": "s3://bucket/models/text2sql", "endpoint": endpoint, "secretRef": {"name": "access"}}),
        release: &|| wire.release(),
        fetched: &|| wire.bytes(),
        allowance: SWIFT,
    };
    served(cluster, &namespace, source).await
}

async fn from_a_registry(cluster: &Cluster) -> anyhow::Result<()> {
    let server = registry(cluster.address(), true).await?;
    let wire = Wire::start(cluster.address(), server.address(), SWIFT).await?;
    Pusher::new(&server, true).artifact("v1", &checkpoint()?).await;
    let namespace = TestNamespace::create_restricted(cluster.control_plane(), "oci").await?;
    let logins = json!({"auths": {wire.address(): {"username": USERNAME, "password": PASSWORD}}}).to_string();
    write_keys(&namespace, "Secret", "access", json!({".dockerconfigjson": logins})).await?;
    let (uri, endpoint) = (format!("oci://{}/team/model:v1", wire.address()), format!("http://{}", wire.address()));
    let source = Source {
        model: json!({"uri": uri, "endpoint": endpoint, "secretRef": {"name": "access"}}),
        release: &|| wire.release(),
        fetched: &|| wire.bytes(),
        allowance: SWIFT,
    };
    served(cluster, &namespace, source).await
}

/// It shows how far the download is, becomes Ready, answers; further replicas take the checkpoint from the cache.
async fn served(cluster: &Cluster, namespace: &TestNamespace, source: Source<'_>) -> anyhow::Result<()> {
    let cache = json!({"size": "1Gi", "accessModes": ["ReadWriteMany"]});
    create_model(namespace, json!({"model": source.model, "cache": cache})).await?;
    let is_ready = model_is(namespace, "how far the download is", |status| {
        let artifact = status.artifact.as_ref()?;
        (0 < artifact.bytes_done && artifact.bytes_done < artifact.bytes_total)
            .then(|| is_true(&status.conditions, "Ready"))
    })
    .await?;
    ensure!(!is_ready, "Ready before the checkpoint was there");
    (source.release)();
    model_is_ready(namespace).await?;
    model_is(namespace, "no download any more", |status| status.artifact.is_none().then_some(())).await?;
    asked(cluster, namespace).await?;

    let before = (source.fetched)();
    ensure!(before > source.allowance, "only {before} were fetched");
    patch_model(namespace, json!({"replicas": 2})).await?;
    let [first, _] = both_answer(namespace, None).await?;
    kill_pod(namespace.name(), namespace.client(), &first).await?;
    both_answer(namespace, Some(&first)).await?;
    asked(cluster, namespace).await?;
    let more = (source.fetched)() - before;
    ensure!(more <= source.allowance, "two more replicas fetched {more} after {before}");
    Ok(())
}

/// A question is answered through the Service, at the latest when the nodes have heard of its endpoints.
async fn asked(cluster: &Cluster, namespace: &TestNamespace) -> anyhow::Result<()> {
    let url = service_url(namespace).await?;
    let answer = eventually("an answer through the Service", Duration::from_secs(10), async || {
        answer(&cluster.network_namespace(0), &url).await.map_err(|error| format!("{error:#}"))
    })
    .await?;
    ensure!(!answer.trim().is_empty(), "it has no answer");
    Ok(())
}

/// Waits until two replicas answer, none of which is `gone`, and returns their names.
async fn both_answer(namespace: &TestNamespace, gone: Option<&str>) -> anyhow::Result<[String; 2]> {
    let is_ready = |pod: &Pod| {
        let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
        conditions.into_iter().flatten().any(|condition| condition.type_ == "Ready" && condition.status == "True")
    };
    let names = eventually("two replicas to answer", SOON, async || {
        let pods = replicas(namespace, "text2sql").await?;
        let ready = pods.iter().filter(|pod| is_ready(pod)).map(ResourceExt::name_any);
        let names: Vec<_> = ready.filter(|name| Some(name.as_str()) != gone).collect();
        <[String; 2]>::try_from(names).map_err(|names| format!("{names:?} of {}", pods.len()))
    });
    Ok(names.await?)
}

pub(crate) fn write(folder: &Path, files: &Files) -> anyhow::Result<()> {
    fs::create_dir_all(folder)?;
    for (name, content) in files {
        fs::write(folder.join(name), content)?;
    }
    Ok(())
}

#[tokio::test]
#[ignore = "minutes: make e2e"]
async fn a_training_reads_a_hub_and_s3_and_its_result_in_s3_is_served() -> anyhow::Result<()> {
    let cluster = cluster(1).await?;
    let _product = Product::install(&cluster, &[]).await?;
    let hub = Hub::start_at(cluster.address(), checkpoint()?).await;
    hub.require_token(TOKEN);
    let server = s3(cluster.address()).await?;
    let bucket = server.folder().join("buckets/bucket");
    let namespace = team(&cluster, "remote").await?;
    fs::create_dir(bucket.join("data"))?;
    let data = cluster.folder_of_claim(namespace.name(), "text2sql").join("data");
    for name in ["train.jsonl.gz", "test.jsonl.gz"] {
        fs::rename(data.join(name), bucket.join("data").join(name))
            .or_else(|_| fs::copy(data.join(name), bucket.join("data").join(name)).map(|_| ()))?;
    }
    write_keys(&namespace, "Secret", "hub", json!({"token": TOKEN})).await?;
    write_keys(&namespace, "Secret", "store", s3_keys(SECRET_KEY)).await?;
    let store = |fields: Value| {
        let mut place = json!({"endpoint": format!("http://{}", server.address()), "secretRef": {"name": "store"}});
        place
            .as_object_mut()
            .into_iter()
            .for_each(|place| place.extend(fields.as_object().cloned().unwrap_or_default()));
        place
    };
    let followed = json!({"uri": null, "trainingRef": {"name": "text2sql"}});
    create_model(&namespace, json!({"model": store(followed)})).await?;
    create_training(
        &namespace,
        json!({
            "model": {"uri": "hf://org/name", "endpoint": hub.endpoint, "secretRef": {"name": "hub"}},
            "dataset": store(json!({"uri": "s3://bucket/data/train.jsonl.gz", "testUri": "s3://bucket/data/test.jsonl.gz"})),
            "output": store(json!({"uri": "s3://bucket/results/text2sql"})),
        }),
    )
    .await?;
    let status = completed(&namespace).await?;
    let digest = digest(&status)?;
    let folder = format!("results/text2sql/{}", digest.trim_start_matches("sha256:"));
    let output = status.output.as_ref().context("no output")?;
    ensure!(output.uri == format!("s3://bucket/{folder}"), "{output:?}");
    ensure!(bucket.join(&folder).join("report.json").is_file(), "there is no report in {folder}");
    let weights = hub.asked("model.safetensors");
    ensure!(weights.iter().filter(|asked| asked.in_store).count() == 1, "not fetched once: {weights:#?}");

    model_is_ready(&namespace).await?;
    let served = model_is(&namespace, "what is served", |status| status.model.clone()).await?;
    ensure!(served.digest.as_deref() == Some(digest) && served.uri == output.uri, "{served:?} is not {output:?}");
    asked(&cluster, &namespace).await
}
