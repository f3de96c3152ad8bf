//! A training whose spec changed in what may change is, in every way, one that had that spec from the start.

use anyhow::ensure;
use cllm_crds::CllmTraining;
use cllm_tests::{TestNamespace, eventually};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::api::{ListParams, Patch, PatchParams};
use serde_json::{Value, json};

use crate::specs::{first_difference, listed};
use crate::support::{Operator, SOON, cluster, create, training_resource};

/// The fields that may change, two values each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Changeable {
    suspend: bool,
    parallelism: u32,
    ttl_seconds: Option<u32>,
}

fn all() -> Vec<Changeable> {
    let both = [false, true];
    let of = |bits: [bool; 3]| Changeable {
        suspend: bits[0],
        parallelism: if bits[1] { 2 } else { 1 },
        ttl_seconds: bits[2].then_some(3600),
    };
    both.iter()
        .flat_map(|first| both.map(|second| [*first, second]))
        .flat_map(|[first, second]| both.map(|third| of([first, second, third])))
        .collect()
}

fn training(name: &str, spec: Changeable) -> anyhow::Result<CllmTraining> {
    let mut training = training_resource()?;
    training.metadata.name = Some(name.to_owned());
    training.spec.suspend = spec.suspend;
    training.spec.trajectories.parallelism = spec.parallelism;
    training.spec.ttl_seconds_after_finished = spec.ttl_seconds;
    Ok(training)
}

/// What is declared of the children, and what people see of the training.
#[derive(Debug, PartialEq)]
struct Seen {
    jobs: Vec<Value>,
    others: Vec<Value>,
    summary: Value,
}

async fn seen(namespace: &TestNamespace, name: &str) -> Result<Seen, String> {
    let training = namespace.api::<CllmTraining>().get(name).await.map_err(|error| error.to_string())?;
    let status = training.status.unwrap_or_default();
    if status.observed_generation != training.metadata.generation {
        return Err(format!("{name}: generation {:?} is taken up", status.observed_generation));
    }
    let selector = ListParams::default().labels(&format!("cllm.dev/training={name}"));
    let mut others = listed::<PersistentVolumeClaim>(namespace, &selector).await?;
    others.extend(listed::<NetworkPolicy>(namespace, &selector).await?);
    Ok(Seen { jobs: listed::<Job>(namespace, &selector).await?, others, summary: json!(status.summary) })
}

/// A training that ran before it was suspended has the Job of its stage, suspended; one that never ran has none.
async fn is_as_fresh(
    [changed, fresh]: [&TestNamespace; 2],
    name: &str,
    (first, second): (Changeable, Changeable),
) -> Result<(), String> {
    let (mut left, mut right) = (seen(changed, name).await?, seen(fresh, name).await?);
    if second.suspend {
        let wanted = usize::from(!first.suspend);
        let is_held = |job: &Value| job["spec"]["suspend"] == true && job["spec"]["parallelism"] == second.parallelism;
        if left.jobs.len() != wanted || !left.jobs.iter().all(is_held) || !right.jobs.is_empty() {
            return Err(format!("{wanted} suspended Jobs expected: {:?} and {:?}", left.jobs, right.jobs));
        }
        (left.jobs, right.jobs) = (Vec::new(), Vec::new());
    } else if left.jobs.len() != 1 {
        return Err(format!("{} Jobs", left.jobs.len()));
    }
    if left == right && left.others.len() == 2 {
        return Ok(());
    }
    let difference = first_difference(&[left.jobs, left.others].concat(), &[right.jobs, right.others].concat());
    Err(format!("{} {}: {difference}", left.summary, right.summary))
}

#[tokio::test]
async fn a_training_that_was_changed_is_as_one_that_was_so_from_the_start() -> anyhow::Result<()> {
    let cluster = cluster().await?;
    let (changed, fresh) =
        (TestNamespace::create(cluster, "changed").await?, TestNamespace::create(cluster, "fresh").await?);
    let operators = [Operator::start(cluster, &changed).await?, Operator::start(cluster, &fresh).await?];
    let pairs: Vec<_> = all()
        .into_iter()
        .flat_map(|first| all().into_iter().filter(move |second| *second != first).map(move |second| (first, second)))
        .enumerate()
        .map(|(index, pair)| (format!("training-{index}"), pair))
        .collect();
    ensure!(pairs.len() == 56, "{} pairs", pairs.len());
    for (name, (first, second)) in &pairs {
        create(&changed, &training(name, *first)?).await?;
        create(&fresh, &training(name, *second)?).await?;
    }
    for (name, (first, _)) in &pairs {
        let jobs = usize::from(!first.suspend);
        eventually("the first spec to be taken up", 3 * SOON, async || match seen(&changed, name).await {
            Ok(seen) if seen.jobs.len() == jobs => Ok(()),
            other => Err(format!("{other:?}")),
        })
        .await?;
    }
    for (name, (_, second)) in &pairs {
        let spec = json!({"spec": {
            "suspend": second.suspend,
            "trajectories": {"parallelism": second.parallelism},
            "ttlSecondsAfterFinished": second.ttl_seconds,
        }});
        changed.api::<CllmTraining>().patch(name, &PatchParams::default(), &Patch::Merge(spec)).await?;
    }
    for (name, pair) in &pairs {
        let same =
            eventually("the same children", 3 * SOON, async || is_as_fresh([&changed, &fresh], name, *pair).await);
        same.await.map_err(|error| anyhow::anyhow!("{name} {pair:?}: {error}"))?;
    }
    for operator in operators {
        operator.stop().await?;
    }
    Ok(())
}
