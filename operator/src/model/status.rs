//! What a model's status says, derived from what was observed and what it said before. `Ready` is computed last.

use cllm_crds::conditions::{reasons, types};
use cllm_crds::status_page::{MeasuredSpeedup, ServerStatus};
use cllm_crds::{
    ArtifactProgress, CheckpointReference, CllmModelStatus, ModelSummary, Rejection, ServedModel, Throughput,
};
use k8s_openapi::api::apps::v1::{Deployment, DeploymentStatus};
use k8s_openapi::jiff::Timestamp;

use crate::conditions::Conditions;
use crate::failure::{self, PodFailure};
use crate::model::downtime::{downtime, is_rolling};
use crate::model::promotion::{Rejected, Standing};
use crate::model::scaling::set_scaling;
use crate::model::service::url;
use crate::model::{
    Decision, Observed, Replica, Resolution, ResolvedModel, ValidModel, replicated, speedup, template_hash,
};
use crate::naming::{model_labels, selector_labels};
use crate::sharing::set_shared;

/// Where the replicas stand as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Phase {
    /// No checkpoint is resolved.
    Waiting { reason: &'static str, message: String },
    /// Replicas are made or replaced.
    Progressing { reason: &'static str, message: String },
    /// Nothing more happens until a person changes something.
    Stuck { reason: String, message: String },
    /// The spec wants no replica.
    AtZero { message: String },
    /// All replicas answer, with the weights that the spec names.
    Ready { reason: &'static str, message: String },
    /// `spec.paused`: whatever there is stays.
    Paused { answers: bool, message: String },
}

/// The status.
pub fn status(
    model: &ValidModel,
    decision: &Decision,
    observed: &Observed,
    previous: &CllmModelStatus,
    now: Timestamp,
) -> CllmModelStatus {
    let Decision { resolution, standing, rejected } = decision;
    let replicas = observed.deployment.as_ref().and_then(|deployment| deployment.status.clone()).unwrap_or_default();
    let loaded = loaded_page(resolution, observed);
    let rollout = rollout(model, resolution, observed);
    let is_good = matches!(rollout, Phase::Ready { reason: reasons::AS_DECLARED, .. });
    let speedup = measured_speedup(model, resolution, observed, previous);
    let failures = failures(observed);
    let mut conditions = Conditions::from_previous(&previous.conditions, model.generation, now);
    set_loaded(&mut conditions, resolution, loaded, &replicas);
    set_scaling(&mut conditions, model, observed);
    speedup::set_verified(&mut conditions, model, speedup.as_ref());
    set_degraded(&mut conditions, standing, &failures);
    let replicated =
        checkpoint(resolution).filter(|_| model.owner.is_in_cluster()).map(|found| replicated(model, found));
    set_shared(&mut conditions, replicated.as_slice(), &observed.claims);
    let phase = if model.spec.paused { paused(&replicas) } else { phase(rollout, standing) };
    set_summary(&mut conditions, &phase);
    CllmModelStatus {
        observed_generation: model.generation,
        replicas: replicas.replicas.unwrap_or_default(),
        ready_replicas: replicas.ready_replicas.unwrap_or_default(),
        selector: Some(selector(model)),
        url: Some(url(model)),
        model: match served(model, resolution, loaded, previous) {
            Some(served) if !model.spec.paused => Some(remember(served, is_good, rejected.as_ref(), previous)),
            _ => previous.model.clone(),
        },
        effective_strategy: strategy(resolution, observed).or_else(|| previous.effective_strategy.clone()),
        artifact: artifact(observed, previous.artifact.as_ref()),
        throughput: throughput(observed).or_else(|| previous.throughput.clone()),
        summary: Some(summary(model, replicas.ready_replicas.unwrap_or_default(), speedup.as_ref())),
        speedup,
        last_failure: failure::last(&failures, previous.last_failure.as_ref()),
        last_downtime: downtime(previous, &replicas, model.replicas(), now),
        conditions: conditions.into_list(),
    }
}

/// What the next decisions need: the last good checkpoint, and the rejected one.
fn remember(
    served: ServedModel,
    is_good: bool,
    rejected: Option<&Rejected>,
    previous: &CllmModelStatus,
) -> ServedModel {
    let known = previous.model.as_ref();
    let [last, before] =
        [known.and_then(|known| known.last_good.clone()), known.and_then(|known| known.previous_good.clone())];
    let good = CheckpointReference { uri: served.uri.clone(), digest: served.digest.clone() };
    // A digest that is told later makes no other checkpoint.
    let is_other = |last: &CheckpointReference| {
        last.uri != good.uri || (last.digest.is_some() && good.digest.is_some() && last.digest != good.digest)
    };
    let is_new = is_good && last.as_ref().is_some_and(is_other);
    ServedModel {
        last_good: if is_good { Some(good) } else { last.clone() },
        previous_good: if is_new { last } else { before },
        rejected_digest: rejected.and_then(|rejected| rejected.digest.clone()),
        rejection: rejected.map(|Rejected { uri, digest: _, reason, message }| Rejection {
            uri: uri.clone(),
            reason: reason.clone(),
            message: message.clone(),
        }),
        ..served
    }
}

/// The status of a model that cannot be served as it is written: what runs goes on.
pub fn refused(
    previous: &CllmModelStatus,
    generation: Option<i64>,
    (reason, message): (&str, String),
    now: Timestamp,
) -> CllmModelStatus {
    let mut conditions = Conditions::from_previous(&previous.conditions, generation, now);
    conditions.set(types::RECONCILING, false, reason, message.clone());
    conditions.set(types::STALLED, true, reason, message.clone());
    conditions.set(types::READY, false, reason, message);
    CllmModelStatus { observed_generation: generation, conditions: conditions.into_list(), ..previous.clone() }
}

/// The status of a model when a step failed that is tried again: how many replicas answer is told all the same.
pub fn delayed(
    previous: &CllmModelStatus,
    generation: Option<i64>,
    deployment: Option<&Deployment>,
    (reason, message): (&str, String),
    now: Timestamp,
) -> CllmModelStatus {
    let replicas = deployment.and_then(|deployment| deployment.status.clone()).unwrap_or_default();
    let ready_replicas = replicas.ready_replicas.unwrap_or_default();
    let mut conditions = Conditions::from_previous(&previous.conditions, generation, now);
    conditions.set(types::RECONCILING, true, reason, message.clone());
    if ready_replicas == 0 || ready_replicas < previous.ready_replicas || previous.observed_generation != generation {
        conditions.set(types::READY, false, reason, message);
    }
    CllmModelStatus {
        replicas: replicas.replicas.unwrap_or_default(),
        ready_replicas,
        conditions: conditions.into_list(),
        ..previous.clone()
    }
}

fn checkpoint(resolution: &Resolution) -> Option<&ResolvedModel> {
    match resolution {
        Resolution::Resolved(checkpoint) => Some(checkpoint),
        Resolution::Waiting { .. } => None,
    }
}

/// Of the replicas that download, the one with the most left; renewed by whole percents.
fn artifact(observed: &Observed, previous: Option<&ArtifactProgress>) -> Option<ArtifactProgress> {
    let downloading = observed.pages().filter_map(|page| page.artifact.as_ref());
    let next = downloading.max_by_key(|progress| progress.bytes_total.saturating_sub(progress.bytes_done))?;
    let percent = |progress: &ArtifactProgress| (100 * progress.bytes_done).checked_div(progress.bytes_total);
    let is_as_before = |old: &&ArtifactProgress| old.bytes_total == next.bytes_total && percent(old) == percent(next);
    Some(previous.filter(is_as_before).unwrap_or(next).clone())
}

/// Of the Pods, and of those that may not even be created.
fn failures(observed: &Observed) -> Vec<PodFailure> {
    let refusal = observed.deployment.as_ref().and_then(failure::refusal);
    refusal.into_iter().chain(observed.failures.iter().cloned()).collect()
}

/// Selects the Pods of the replicas, as the scale subresource writes it.
fn selector(model: &ValidModel) -> String {
    let labels = selector_labels(&model_labels(&model.owner.name));
    labels.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(",")
}

/// How far the replicas are, seen together with how what they serve stands to the spec.
fn phase(rollout: Phase, standing: &Standing) -> Phase {
    match (rollout, standing) {
        (_, Standing::Unmet { reason, message }) => Phase::Stuck { reason: reason.clone(), message: message.clone() },
        (
            Phase::Ready { reason, message },
            Standing::Kept { message: why } | Standing::RolledBack { message: why, .. },
        ) => Phase::Ready { reason, message: format!("{message} {why}") },
        (rollout, Standing::AsAsked | Standing::Kept { .. } | Standing::RolledBack { .. }) => rollout,
    }
}

fn paused(replicas: &DeploymentStatus) -> Phase {
    let ready = replicas.ready_replicas.unwrap_or_default();
    let message =
        format!("{ready} replicas answer; spec.paused is true, so nothing is changed: set it to false to go on.");
    Phase::Paused { answers: ready > 0, message }
}

/// What goes wrong with Pods now, or else why something other than what was asked for is served.
fn set_degraded(conditions: &mut Conditions, standing: &Standing, failures: &[PodFailure]) {
    let is_failing = failures.iter().any(|found| found.is_current);
    match standing {
        Standing::RolledBack { reason, message } | Standing::Unmet { reason, message } if !is_failing => {
            conditions.set(types::DEGRADED, true, reason, message.clone());
        }
        _ => failure::set_degraded(conditions, failures),
    }
}

fn rollout(model: &ValidModel, resolution: &Resolution, observed: &Observed) -> Phase {
    let checkpoint = match resolution {
        Resolution::Waiting { reason, message } => return Phase::Waiting { reason, message: message.clone() },
        Resolution::Resolved(checkpoint) => checkpoint,
    };
    let progressing = |reason, message: &str| Phase::Progressing { reason, message: message.to_owned() };
    let Some(deployment) = &observed.deployment else {
        return progressing(reasons::PROGRESSING, "The Deployment is being created.");
    };
    let status = deployment.status.clone().unwrap_or_default();
    let is_taken_up = status.observed_generation >= deployment.metadata.generation;
    if !is_taken_up && !are_made_so(&template_hash(model, checkpoint), &observed.replicas) {
        return progressing(reasons::PROGRESSING, "The Deployment has not taken up the change.");
    }
    if let Some(message) = progress_failure(&status) {
        return Phase::Stuck { reason: reasons::PROGRESS_DEADLINE_EXCEEDED.to_owned(), message };
    }
    let wanted = i32::try_from(model.replicas()).unwrap_or(i32::MAX);
    let [total, updated, ready] =
        [status.replicas, status.updated_replicas, status.ready_replicas].map(Option::unwrap_or_default);
    if wanted == 0 && total == 0 {
        let message = "spec.replicas is 0; raise it to serve.".to_owned();
        return Phase::AtZero { message };
    }
    if is_scaled_up(model, &status) {
        let message = format!("{ready} of {wanted} replicas answer; the autoscaler has added the others.");
        return Phase::Ready { reason: reasons::SCALING, message };
    }
    if is_rolling(&status, model.replicas()) {
        let message = format!("{updated} of {wanted} replicas are as the spec says.");
        return Phase::Progressing { reason: reasons::PROGRESSING, message };
    }
    if ready < wanted {
        let message = format!("{ready} of {wanted} replicas answer.");
        return Phase::Progressing { reason: reasons::REPLICAS_NOT_READY, message };
    }
    Phase::Ready { reason: reasons::AS_DECLARED, message: format!("{ready} of {wanted} replicas answer.") }
}

/// All Pods are made from that template: then nothing but their number can have changed, and what is told of them holds still.
fn are_made_so(template: &str, replicas: &[Replica]) -> bool {
    !replicas.is_empty() && replicas.iter().all(|replica| replica.template.as_deref() == Some(template))
}

/// All replicas are as the spec says, as many answer as the autoscaler must leave, and others are on their way.
fn is_scaled_up(model: &ValidModel, status: &DeploymentStatus) -> bool {
    let [total, updated, ready] =
        [status.replicas, status.updated_replicas, status.ready_replicas].map(Option::unwrap_or_default);
    let wanted = i32::try_from(model.replicas()).unwrap_or(i32::MAX);
    let fewest = model.spec.autoscaling.as_ref().and_then(|options| i32::try_from(options.min_replicas).ok());
    fewest.is_some_and(|fewest| ready >= fewest && ready < wanted && total == updated)
}

/// What the Deployment says when it gave up.
fn progress_failure(status: &DeploymentStatus) -> Option<String> {
    let mut conditions = status.conditions.iter().flatten();
    let failed = conditions.find(|condition| {
        condition.type_ == "Progressing"
            && condition.status == "False"
            && condition.reason.as_deref() == Some("ProgressDeadlineExceeded")
    })?;
    let message = failed.message.clone().unwrap_or_default();
    Some(format!("{message} Look at the Pods that do not become ready (kubectl describe pod)."))
}

/// The page of a replica that answers with the weights that the spec names.
fn loaded_page<'a>(resolution: &Resolution, observed: &'a Observed) -> Option<&'a ServerStatus> {
    loaded_pages(resolution, observed).next()
}

fn loaded_pages<'a>(resolution: &Resolution, observed: &'a Observed) -> impl Iterator<Item = &'a ServerStatus> {
    let digest = match resolution {
        Resolution::Resolved(checkpoint) => Some(checkpoint.digest().map(str::to_owned)),
        Resolution::Waiting { .. } => None,
    };
    observed.pages().filter(move |page| {
        let is_wanted = |digest: &Option<String>| digest.as_ref().is_none_or(|digest| *digest == page.digest);
        page.ready && digest.as_ref().is_some_and(is_wanted)
    })
}

/// Autoregressive if one of them is: each has measured itself.
fn strategy(resolution: &Resolution, observed: &Observed) -> Option<String> {
    loaded_pages(resolution, observed).map(|page| page.effective_strategy.clone()).min()
}

/// Of the replicas as they are made now; what was measured of another checkpoint does not stand for this one.
fn measured_speedup(
    model: &ValidModel,
    resolution: &Resolution,
    observed: &Observed,
    previous: &CllmModelStatus,
) -> Option<MeasuredSpeedup> {
    let Resolution::Resolved(checkpoint) = resolution else { return None };
    let template = template_hash(model, checkpoint);
    let made_so = observed.replicas.iter().filter(|replica| replica.template.as_ref() == Some(&template));
    let is_same = previous.model.as_ref().is_some_and(|known| {
        known.spec_hash == model.spec_hash
            && ResolvedModel::new(&known.uri, known.digest.clone()).is_ok_and(|known| known.is_same(checkpoint))
    });
    let least = speedup::least(made_so.filter_map(|replica| replica.page.as_ref()));
    least.or_else(|| previous.speedup.clone().filter(|_| is_same)).filter(|_| speedup::is_measured(model))
}

/// In the words that `kubectl get` prints.
fn summary(model: &ValidModel, ready: i32, speedup: Option<&MeasuredSpeedup>) -> ModelSummary {
    ModelSummary {
        replicas: format!("{ready}/{}", model.replicas()),
        speedup: speedup.map(|speedup| format!("{}x", speedup.over_own_autoregressive)),
    }
}

fn served(
    model: &ValidModel,
    resolution: &Resolution,
    loaded: Option<&ServerStatus>,
    previous: &CllmModelStatus,
) -> Option<ServedModel> {
    let Resolution::Resolved(checkpoint) = resolution else { return previous.model.clone() };
    let known = previous.model.as_ref().filter(|known| known.uri == checkpoint.uri());
    let digest_of = |page: &ServerStatus| Some(page.digest.clone()).filter(|digest| !digest.is_empty());
    Some(ServedModel {
        uri: checkpoint.uri().to_owned(),
        digest: checkpoint
            .digest()
            .map(str::to_owned)
            .or_else(|| loaded.and_then(digest_of))
            .or_else(|| known.and_then(|known| known.digest.clone())),
        parameters: loaded.map(|page| page.parameters).or_else(|| known.and_then(|known| known.parameters)),
        image: model.image.clone(),
        spec_hash: model.spec_hash.clone(),
        ..ServedModel::default()
    })
}

/// All replicas together; absent while none has generated anything.
fn throughput(observed: &Observed) -> Option<Throughput> {
    let measured: Vec<_> = observed.pages().filter_map(|page| page.throughput.as_ref()).collect();
    let newest = measured.iter().map(|figures| figures.measured_at.as_str()).max()?;
    let tokens_per_second: f64 = measured.iter().map(|figures| figures.tokens_per_second).sum();
    let tokens_per_forward: f64 = measured.iter().map(|figures| figures.tokens_per_forward).sum();
    Some(Throughput {
        tokens_per_second: format!("{tokens_per_second:.1}"),
        capacity_tokens_per_second: capacity(observed),
        tokens_per_forward: format!("{:.2}", tokens_per_forward / measured.len() as f64),
        measured_at: newest.to_owned(),
    })
}

/// Of all replicas that answer, if each knows its own.
fn capacity(observed: &Observed) -> Option<String> {
    let ready = observed.pages().filter(|page| page.ready);
    let capacities: Vec<f64> = ready.map(|page| page.capacity_tokens_per_second).collect::<Option<_>>()?;
    (!capacities.is_empty()).then(|| format!("{:.1}", capacities.iter().sum::<f64>()))
}

fn set_loaded(
    conditions: &mut Conditions,
    resolution: &Resolution,
    loaded: Option<&ServerStatus>,
    replicas: &DeploymentStatus,
) {
    match (resolution, loaded) {
        (Resolution::Waiting { reason, message }, _) => {
            conditions.set(types::MODEL_LOADED, false, reason, message.clone());
        }
        (Resolution::Resolved(checkpoint), Some(_)) => {
            conditions.set(
                types::MODEL_LOADED,
                true,
                reasons::LOADED,
                format!("A replica has loaded {}.", checkpoint.uri()),
            );
        }
        // The operator may be unable to reach the Pods; that a replica is ready says as much.
        (Resolution::Resolved(checkpoint), None) if is_rolled_out(replicas) => {
            conditions.set(
                types::MODEL_LOADED,
                true,
                reasons::LOADED,
                format!("A replica has loaded {}.", checkpoint.uri()),
            );
        }
        (Resolution::Resolved(checkpoint), None) => {
            conditions.set(types::MODEL_LOADED, false, reasons::LOADING, loading(checkpoint));
        }
    }
}

fn loading(checkpoint: &ResolvedModel) -> String {
    format!("No replica has loaded {} yet.", checkpoint.uri())
}

fn is_rolled_out(status: &DeploymentStatus) -> bool {
    let [total, updated, ready] =
        [status.replicas, status.updated_replicas, status.ready_replicas].map(Option::unwrap_or_default);
    ready > 0 && updated == total
}

/// Reconciling, Stalled, and from them Ready.
fn set_summary(conditions: &mut Conditions, phase: &Phase) {
    let (is_reconciling, is_stalled, is_ready, reason, message) = match phase {
        Phase::Waiting { reason, message } | Phase::Progressing { reason, message } => {
            (true, false, false, *reason, message)
        }
        Phase::Stuck { reason, message } => (false, true, false, reason.as_str(), message),
        Phase::AtZero { message } => (false, false, false, reasons::SCALED_TO_ZERO, message),
        Phase::Ready { reason, message } => (false, false, true, *reason, message),
        Phase::Paused { answers, message } => (false, false, *answers, reasons::PAUSED, message),
    };
    conditions.set(types::RECONCILING, is_reconciling, reason, message.clone());
    conditions.set(types::STALLED, is_stalled, reason, message.clone());
    // Never without a replica that answers.
    conditions.set(types::READY, is_ready, reason, message.clone());
}
