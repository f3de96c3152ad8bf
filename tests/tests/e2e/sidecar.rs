//! Pods with the model beside them: what they get, what nobody else gets, and what happens without an operator or while its certificates
//! change.

use std::{collections::BTreeSet, convert::Infallible, sync::Arc, time::Duration};

use anyhow::{Context, ensure};
use cllm_operator::injection::{Registration, registration};
use cllm_tests::{
    Cluster, TestNamespace, eventually, eventually_object,
    product::{Product, yaml_of_page},
};
use k8s_openapi::api::{
    admissionregistration::v1::MutatingWebhookConfiguration,
    batch::v1::Job,
    core::v1::{Pod, Secret},
};
use kube::{
    Api, ResourceExt,
    api::{ListParams, PostParams},
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval},
};
use tokio_rustls::{
    TlsConnector,
    rustls::{
        ClientConfig, RootCertStore,
        crypto::ring::default_provider,
        pki_types::{CertificateDer, ServerName, pem::PemObject},
    },
};

use crate::load::{inside, network_of_pod};
use crate::scenario::{SOON, cluster, create_model, filled, kill_pod, model_is, model_is_ready, team};

/// A Pod that meets "restricted" and asks for nothing.
fn pod(name: &str) -> anyhow::Result<Pod> {
    let security = json!({"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}});
    Ok(serde_json::from_value(json!({
        "metadata": {"name": name},
        "spec": {
            "restartPolicy": "Never",
            "containers": [{
                "name": "app", "image": concat!("cllm:", env!("CARGO_PKG_VERSION")), "command": ["cllm", "chat"], "stdin": true,
                "securityContext": security,
            }],
            "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
        },
    }))?)
}

/// One that asks for the model.
fn asking(name: &str) -> anyhow::Result<Pod> {
    let mut pod = pod(name)?;
    pod.labels_mut().insert("cllm.dev/inject".to_owned(), "text2sql".to_owned());
    Ok(pod)
}

fn has_sidecar(pod: &Pod) -> bool {
    let containers = pod.spec.iter().flat_map(|spec| spec.init_containers.iter().flatten());
    containers.filter(|container| container.name == "cllm-server").count() == 1
}

fn trial() -> PostParams {
    PostParams { dry_run: true, ..PostParams::default() }
}

/// Lets Pods of the namespace have sidecars, and waits until a trial gets one.
async fn allow(namespace: &TestNamespace) -> anyhow::Result<()> {
    namespace.label("cllm.dev/injection", "enabled").await?;
    let (pods, pod) = (namespace.api::<Pod>(), asking("trial")?);
    eventually("a sidecar", SOON, async || match pods.create(&trial(), &pod).await {
        Ok(made) if has_sidecar(&made) => Ok(()),
        Ok(made) => Err(format!("{:?}", made.metadata.annotations)),
        Err(error) => Err(error.to_string()),
    })
    .await?;
    Ok(())
}

/// The only Pod with that label.
async fn only(namespace: &TestNamespace, label: &str) -> anyhow::Result<Pod> {
    let list = namespace.api::<Pod>().list(&ListParams::default().labels(label)).await?;
    let [pod] = list.items.as_slice() else { anyhow::bail!("{} Pods {label}", list.items.len()) };
    Ok(pod.clone())
}

#[tokio::test]
#[ignore = "minutes: make e2e"]
async fn a_deployment_and_a_job_ask_the_model_beside_them_and_nobody_else_is_touched() -> anyhow::Result<()> {
    let cluster = cluster(1).await?;
    let product = Product::install(&cluster, &[]).await?;
    let namespace = team(&cluster, "beside").await?;
    let other = filled(&cluster, "untouched").await?;
    // Where the operator is, its webhook is never asked, whoever wants it.
    product.test_namespace().label("cllm.dev/injection", "enabled").await?;
    create_model(&namespace, json!({})).await?;
    create_model(&other, json!({"replicas": 0})).await?;
    model_is_ready(&namespace).await?;
    allow(&namespace).await?;
    cluster
        .control_plane()
        .kubectl_with_input(&["apply", "-n", namespace.name(), "-f", "-"], &yaml_of_page("sidecar.md")?)
        .await?;

    the_job_got_its_answer(&cluster, &namespace).await?;
    the_deployment_has_it_for_itself(&namespace).await?;
    twice_is_once(&namespace).await?;
    for (place, pod) in [
        (&*namespace, pod("unlabelled")?),
        (&other, asking("elsewhere")?),
        (product.test_namespace(), asking("beside-the-operator")?),
    ] {
        let made = place.api::<Pod>().create(&trial(), &pod).await?;
        let is_untouched =
            made.annotations().is_empty() && made.spec.is_some_and(|spec| spec.init_containers.is_none());
        ensure!(is_untouched, "{} was touched", pod.name_any());
    }
    a_stranger_learns_nothing(&cluster, &product, &namespace).await?;
    product.uninstall().await?;
    Ok(product.only_the_definitions_are_left().await?)
}

/// It asked once, as the first thing that it did: the model answered before it was started.
async fn the_job_got_its_answer(cluster: &Cluster, namespace: &TestNamespace) -> anyhow::Result<()> {
    let ended = eventually_object(&namespace.api::<Job>(), "question", "the Job to end", SOON, |job: &Job| {
        let status = job.status.clone()?;
        (status.succeeded.is_some() || status.failed.is_some()).then_some(status)
    })
    .await?;
    let label = "batch.kubernetes.io/job-name=question";
    let pod = only(namespace, label).await?;
    let logs = ["logs", "-n", namespace.name(), "-l", label, "-c", "question"];
    let said = cluster.control_plane().kubectl(&logs).await?.stdout;
    ensure!(ended.succeeded == Some(1), "{said} {:#}", json!(pod.status));
    let answer: Value = serde_json::from_str(said.lines().last().unwrap_or_default()).with_context(|| said.clone())?;
    ensure!(answer["text"].as_str().is_some_and(|text| text.to_uppercase().contains("SELECT")), "{said}");

    let served = model_is(namespace, "its digest", |status| status.model.as_ref()?.digest.clone()).await?;
    let pinned = pod.annotations().get("cllm.dev/model-digest");
    ensure!(pinned == Some(&served), "{pinned:?}, and the model serves {served}");
    Ok(())
}

/// The API is for its own Pod, the probes are for the kubelet.
async fn the_deployment_has_it_for_itself(namespace: &TestNamespace) -> anyhow::Result<()> {
    let pod = only(namespace, "app=shop").await?;
    let pods = namespace.api::<Pod>();
    let address = eventually_object(&pods, &pod.name_any(), "the Pod to be ready", SOON, |pod: &Pod| {
        let status = pod.status.as_ref()?;
        let mut conditions = status.conditions.iter().flatten();
        let is_ready = conditions.any(|condition| condition.type_ == "Ready" && condition.status == "True");
        status.pod_ip.clone().filter(|_| is_ready)
    })
    .await?;
    let probe = reqwest::get(format!("http://{address}:9090/readyz")).await?;
    ensure!(probe.status() == 200, "{probe:?}");
    let api = reqwest::get(format!("http://{address}:8000/v1/models")).await;
    ensure!(api.as_ref().is_err_and(reqwest::Error::is_connect), "the API answers other Pods: {api:?}");
    Ok(())
}

/// As somebody who applies what `kubectl get -o yaml` printed.
async fn twice_is_once(namespace: &TestNamespace) -> anyhow::Result<()> {
    let first = namespace.api::<Pod>().create(&trial(), &asking("once")?).await?;
    let mut again = asking("twice")?;
    again.metadata.annotations = first.metadata.annotations.clone();
    again.spec = first.spec.clone();
    let second = namespace.api::<Pod>().create(&trial(), &again).await?;
    ensure!(has_sidecar(&second) && json!(second.spec) == json!(first.spec), "{:#}", json!(second.spec));
    Ok(())
}

/// Asks the operator as any Pod can: from the Pod of the Deployment, without the key.
async fn a_stranger_learns_nothing(
    cluster: &Cluster,
    product: &Product<'_>,
    namespace: &TestNamespace,
) -> anyhow::Result<()> {
    let client = cluster.control_plane().client()?;
    let webhook = Api::<MutatingWebhookConfiguration>::all(client.clone()).get("cllm-operator").await?;
    let is_keyed = matches!(registration(Some(&webhook)), Registration::Known(_));
    let bundle = webhook.webhooks.and_then(|webhooks| webhooks.into_iter().next()?.client_config.ca_bundle);
    let bundle = bundle.filter(|_| is_keyed).context("the webhook has no key or no caBundle")?;
    let pods = Api::<Pod>::namespaced(client, product.namespace());
    let operators = pods.list(&ListParams::default().labels("app.kubernetes.io/name=cllm-operator")).await?;
    let operator = operators.items.first().context("no operator")?;
    let address = operator.status.as_ref().and_then(|status| status.pod_ip.clone()).context("no address")?;
    let host = format!("cllm-operator.{}.svc", product.namespace());
    let review = json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "request": {"uid": "1", "namespace": namespace.name(), "operation": "CREATE", "object": asking("stranger")?},
    });
    let stranger = only(namespace, "app=shop").await?.uid().context("no uid")?;
    for path in ["/inject", "/inject/", "/inject/00000000000000000000000000000000"] {
        let (address, host, authorities) = (address.clone(), host.clone(), bundle.0.clone());
        let review = review.to_string();
        let ask = async move || post((&address, &host), &authorities, path, &review).await;
        let answer = inside(network_of_pod(&stranger)?, ask).await?;
        let is_refused = answer.starts_with("HTTP/1.1 404") || answer.starts_with("HTTP/1.1 405");
        ensure!(is_refused && !answer.contains("text2sql"), "{path}: {answer}");
    }
    Ok(())
}

/// The whole answer, as text.
async fn post((address, host): (&str, &str), authorities: &[u8], path: &str, body: &str) -> anyhow::Result<String> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(authorities) {
        roots.add(certificate?)?;
    }
    let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let connection = TcpStream::connect((address, 8443)).await?;
    let name = ServerName::try_from(host.to_owned())?;
    let mut stream = TlsConnector::from(Arc::new(config)).connect(name, connection).await?;
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(format!("{head}{body}").as_bytes()).await?;
    let mut answer = Vec::new();
    // Some servers end a connection without saying so first; what came is what counts.
    drop(stream.read_to_end(&mut answer).await);
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

#[tokio::test]
#[ignore = "minutes: make e2e"]
async fn without_an_operator_pods_are_made_and_told_of_when_there_is_one_again() -> anyhow::Result<()> {
    let cluster = cluster(1).await?;
    let product = Product::install(&cluster, &[]).await?;
    let namespace = team(&cluster, "missed").await?;
    create_model(&namespace, json!({"replicas": 0})).await?;
    allow(&namespace).await?;
    product.upgrade(&["replicas=0"]).await?;
    let pods = namespace.api::<Pod>();
    let missed = eventually("a Pod without its sidecar", SOON, async || {
        // An operator that is ending may still answer.
        let made = pods.create(&PostParams::default(), &asking("missed")?).await?;
        if !has_sidecar(&made) {
            return Ok(made);
        }
        kill_pod(namespace.name(), namespace.client(), "missed").await?;
        Err(anyhow::anyhow!("it has one"))
    })
    .await?;
    ensure!(missed.annotations().is_empty(), "{:?}", missed.annotations());

    product.upgrade(&["replicas=1"]).await?;
    let about =
        |kind: &str, name: &str| format!("involvedObject.kind={kind},involvedObject.name={name},reason=SidecarMissing");
    for (kind, name) in [("Pod", "missed"), ("CllmModel", "text2sql")] {
        let selector = about(kind, name);
        let arguments = ["get", "events", "-n", namespace.name(), "--field-selector", &selector, "-o", "json"];
        let told = eventually(&format!("{kind} {name} to be told of"), SOON, async || {
            let output = cluster.control_plane().kubectl(&arguments).await.map_err(|error| error.to_string())?;
            let list: Value = serde_json::from_str(&output.stdout).map_err(|error| error.to_string())?;
            list["items"][0]["message"].as_str().map(str::to_owned).ok_or(output.stdout)
        })
        .await?;
        ensure!(told.contains("kubectl label namespace") && told.contains("hen delete the"), "{told}");
    }
    Ok(())
}

/// Certificates and authorities of the operator that were seen.
#[derive(Debug, Default)]
struct Seen {
    certificates: BTreeSet<Vec<u8>>,
    authorities: BTreeSet<Vec<u8>>,
}

impl Seen {
    async fn look(&mut self, secrets: &Api<Secret>) -> anyhow::Result<()> {
        let data = secrets.get("cllm-operator-certificates").await?.data.unwrap_or_default();
        let value = |key: &str| data.get(key).map(|value| value.0.clone());
        self.certificates.extend(value("tls.crt"));
        self.authorities.extend(value("ca.crt"));
        Ok(())
    }
}

#[tokio::test]
#[ignore = "minutes: make e2e"]
async fn twenty_dry_runs_a_second_get_their_sidecars_while_certificates_and_authorities_change() -> anyhow::Result<()> {
    let cluster = cluster(1).await?;
    let lifetimes = ["--certificate-lifetime=30", "--authority-lifetime=60", "--authority-overlap=6"];
    let values = [0, 1, 2].map(|index| format!("extraArgs[{index}]={}", lifetimes[index]));
    let product = Product::install(&cluster, &values.each_ref().map(String::as_str)).await?;
    let namespace = team(&cluster, "rotation").await?;
    create_model(&namespace, json!({"replicas": 0})).await?;
    allow(&namespace).await?;
    let secrets = Api::<Secret>::namespaced(cluster.control_plane().client()?, product.namespace());
    while_pods_are_made(&namespace, certificates_change(&secrets)).await
}

/// Two authorities beside each other, one gone, and certificates of both.
async fn certificates_change(secrets: &Api<Secret>) -> anyhow::Result<()> {
    let mut seen = Seen::default();
    let deadline = Instant::now() + Duration::from_secs(240);
    while seen.certificates.len() < 4 || seen.authorities.len() < 4 {
        ensure!(Instant::now() < deadline, "{} and {}", seen.certificates.len(), seen.authorities.len());
        tokio::time::sleep(Duration::from_secs(1)).await;
        seen.look(secrets).await?;
    }
    Ok(())
}

/// Twenty trials a second for as long as that takes, each of which gets a sidecar.
async fn while_pods_are_made(
    namespace: &TestNamespace,
    work: impl Future<Output = anyhow::Result<()>>,
) -> anyhow::Result<()> {
    let (pod, mut asked) = (asking("trial")?, JoinSet::new());
    tokio::select! {
        done = work => done?,
        never = make_pods(namespace.api(), pod, &mut asked) => match never {},
    }
    let answers = asked.join_all().await;
    ensure!(answers.len() > 100, "only {} trials", answers.len());
    let failures: Vec<_> = answers.iter().filter(|answer| !matches!(answer, Ok(true))).collect();
    ensure!(failures.is_empty(), "{} of {}: {failures:?}", failures.len(), answers.len());
    Ok(())
}

async fn make_pods(pods: Api<Pod>, pod: Pod, asked: &mut JoinSet<kube::Result<bool>>) -> Infallible {
    let mut ticks = interval(Duration::from_millis(50));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    loop {
        ticks.tick().await;
        let (pods, pod) = (pods.clone(), pod.clone());
        asked.spawn(async move { pods.create(&trial(), &pod).await.map(|made| has_sidecar(&made)) });
    }
}

#[tokio::test]
#[ignore = "minutes: make e2e"]
async fn no_pod_goes_without_its_sidecar_while_operators_are_replaced() -> anyhow::Result<()> {
    let cluster = cluster(1).await?;
    let product = Product::install(&cluster, &[]).await?;
    let namespace = team(&cluster, "replaced").await?;
    create_model(&namespace, json!({"replicas": 0})).await?;
    allow(&namespace).await?;
    while_pods_are_made(&namespace, async {
        for _ in 0..2 {
            replace_operators(&cluster, &product).await?;
        }
        Ok(())
    })
    .await
}

/// Until none of those of before is left.
async fn replace_operators(cluster: &Cluster, product: &Product<'_>) -> anyhow::Result<()> {
    let (control_plane, namespace, operators) =
        (cluster.control_plane(), product.namespace(), "deployment/cllm-operator");
    control_plane.kubectl(&["rollout", "restart", operators, "-n", namespace]).await?;
    control_plane.kubectl(&["rollout", "status", operators, "-n", namespace, "--timeout=120s"]).await?;
    let pods = product.test_namespace().api::<Pod>();
    eventually("two operators, and none that ends", SOON, async || {
        let list = pods.list(&ListParams::default().labels("app.kubernetes.io/name=cllm-operator")).await;
        let list = list.map_err(|error| error.to_string())?;
        if list.items.len() == 2 { Ok(()) } else { Err(format!("{} Pods", list.items.len())) }
    })
    .await?;
    Ok(())
}
