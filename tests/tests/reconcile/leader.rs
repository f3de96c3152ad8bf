//! Two operators and one Lease: one acts, the other takes over when the first is dead, and one that is cut off stops before.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, ensure};
use cllm_operator::controller::LeaderElection;
use cllm_operator::election::Timing;
use cllm_tests::{ControlPlane, TestNamespace, eventually, eventually_object};
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::jiff::SignedDuration;
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::json;

use crate::support::{Operator, SOON, before_each_request, cluster, create, exists, model_resource};

const NAME: &str = "cllm-operator";

fn election(namespace: &TestNamespace, identity: &str, timing: Timing) -> LeaderElection {
    LeaderElection {
        namespace: namespace.name().to_owned(),
        name: NAME.to_owned(),
        identity: identity.to_owned(),
        timing,
    }
}

fn timing(lease_duration: u64, renew_deadline: u64) -> Timing {
    Timing {
        lease_duration: Duration::from_secs(lease_duration),
        renew_deadline: Duration::from_secs(renew_deadline),
        retry_period: Duration::from_millis(300),
    }
}

async fn start(
    cluster: &ControlPlane,
    namespace: &TestNamespace,
    identity: &str,
    timing: Timing,
) -> anyhow::Result<Operator> {
    Operator::start_with(cluster.client()?, namespace, Some(election(namespace, identity, timing))).await
}

async fn leads(operator: &Operator) -> anyhow::Result<()> {
    let leads = eventually("the operator to lead", SOON, async || match operator.leads().await {
        Ok(true) => Ok(()),
        other => Err(format!("{other:?}")),
    });
    Ok(leads.await?)
}

async fn lease(namespace: &TestNamespace) -> anyhow::Result<LeaseSpec> {
    namespace.api::<Lease>().get(NAME).await?.spec.context("a Lease without a spec")
}

#[tokio::test]
async fn one_of_two_operators_acts_and_the_other_takes_over_when_it_is_dead_and_not_before() -> anyhow::Result<()> {
    let cluster = cluster().await?;
    let namespace = TestNamespace::create(cluster, "leader").await?;
    let timing = timing(8, 5);
    let first = start(cluster, &namespace, "first", timing).await?;
    leads(&first).await?;
    let second = start(cluster, &namespace, "second", timing).await?;
    create(&namespace, &model_resource(&json!({"uri": "pvc://models/text2sql"}))?).await?;
    let service = exists::<Service>(&namespace, "text2sql", None).await?;
    ensure!(second.leads().await == Ok(false) && second.writes() == 0, "{} writes of a second one", second.writes());

    first.kill().await;
    let last = lease(&namespace).await?;
    leads(&second).await?;
    let taken = lease(&namespace).await?;
    ensure!(last.holder_identity.as_deref() == Some("first"), "{last:?}");
    ensure!(taken.holder_identity.as_deref() == Some("second") && taken.lease_transitions == Some(1), "{taken:?}");
    // Both stamps are of this machine's clock.
    let (renewed, acquired) = (last.renew_time.context("never renewed")?, taken.acquire_time.context("not acquired")?);
    ensure!(acquired.0.duration_since(renewed.0) >= SignedDuration::from_secs(8), "{renewed:?} {acquired:?}");
    namespace.api::<Service>().delete("text2sql", &DeleteParams::default()).await?;
    exists::<Service>(&namespace, "text2sql", Some(&service)).await?;

    second.stop().await?;
    let released = lease(&namespace).await?;
    ensure!(released.holder_identity.as_deref() == Some(""), "{released:?}");
    Ok(())
}

#[tokio::test]
async fn a_leader_that_is_cut_off_stops_before_another_one_acts() -> anyhow::Result<()> {
    let cluster = cluster().await?;
    let namespace = TestNamespace::create(cluster, "partition").await?;
    let timing = timing(20, 3);
    let is_cut = Arc::new(AtomicBool::new(false));
    let cut = is_cut.clone();
    // Requests go out and are never answered.
    let client = before_each_request(cluster.client()?, move |_| {
        let cut = cut.clone();
        async move {
            if cut.load(Ordering::SeqCst) {
                std::future::pending::<()>().await;
            }
        }
    });
    let first = Operator::start_with(client, &namespace, Some(election(&namespace, "first", timing))).await?;
    leads(&first).await?;
    let second = start(cluster, &namespace, "second", timing).await?;

    is_cut.store(true, Ordering::SeqCst);
    let end = first.ends().await;
    let holder = lease(&namespace).await?.holder_identity;
    ensure!(holder.as_deref() == Some("first"), "{holder:?} holds the Lease before the first one stopped");
    let error = end.err().context("it ended as if it had been told to")?.to_string();
    ensure!(error.contains("could not be renewed within 3s"), "{error}");
    eventually_object(&namespace.api::<Lease>(), NAME, "the second to take over", SOON, |lease| {
        lease.spec.as_ref()?.holder_identity.as_deref().filter(|holder| *holder == "second").map(|_| ())
    })
    .await?;
    second.stop().await
}

#[tokio::test]
async fn a_leader_whose_lease_was_taken_stops() -> anyhow::Result<()> {
    let cluster = cluster().await?;
    let namespace = TestNamespace::create(cluster, "taken-over").await?;
    let first = start(cluster, &namespace, "first", timing(8, 5)).await?;
    leads(&first).await?;
    let leases = namespace.api::<Lease>();
    let theirs = json!({"spec": {"holderIdentity": "someone", "leaseDurationSeconds": 3600}});
    leases.patch(NAME, &PatchParams::default(), &Patch::Merge(theirs)).await?;
    let error = first.ends().await.err().context("it ended as if it had been told to")?.to_string();
    ensure!(error.contains("was taken over by another operator"), "{error}");
    Ok(())
}

#[tokio::test]
async fn an_operator_that_is_stopped_before_it_has_read_what_exists_ends_and_releases_its_lease() -> anyhow::Result<()>
{
    let cluster = cluster().await?;
    let namespace = TestNamespace::create(cluster, "stopped-early").await?;
    // Leads at once, and never gets a list.
    let client = before_each_request(cluster.client()?, |request| {
        let is_answered = request.uri.path().contains("/leases");
        async move {
            if !is_answered {
                std::future::pending::<()>().await;
            }
        }
    });
    let operator = Operator::start_with(client, &namespace, Some(election(&namespace, "only", timing(8, 5)))).await?;
    leads(&operator).await?;
    operator.stop().await?;
    let released = lease(&namespace).await?;
    ensure!(released.holder_identity.as_deref() == Some(""), "{released:?}");
    Ok(())
}
