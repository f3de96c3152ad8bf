//! Which checkpoint the replicas get, and how that stands to what the spec asks for: promoted, kept, or gone back to an earlier one.
//!
//! A checkpoint is good once all replicas answered with it. One that is not good yet is rejected when a replica refuses it or is blocked
//! by the gate, and no replica answers with it. What is rejected stays so until the spec changes or the training gives another.
//! All that must outlast the operator stands in the status.

use cllm_crds::conditions::reasons;
use cllm_crds::status_page::ServerStatus;
use cllm_crds::{CheckpointReference, CllmModelStatus, CllmTraining};

use crate::model::deployment::template_hash;
use crate::model::{ModelReference, Resolution, ResolvedModel, ValidModel, resolve};

/// What the status remembers of earlier decisions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// What the replicas were last rendered with.
    pub(super) served: Option<ResolvedModel>,
    /// With what all of them last answered.
    pub(super) last_good: Option<ResolvedModel>,
    /// The good one before that.
    pub(super) previous_good: Option<ResolvedModel>,
    /// For this spec.
    pub(super) rejected: Option<Rejected>,
}

/// A checkpoint that is not tried again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rejected {
    pub(super) uri: String,
    pub(super) digest: Option<String>,
    pub(super) reason: String,
    pub(super) message: String,
}

impl Memory {
    /// As the status tells it; a rejection holds for the spec under which it came about.
    pub(super) fn of(status: Option<&CllmModelStatus>, spec_hash: &str) -> Self {
        let Some(known) = status.and_then(|status| status.model.as_ref()) else { return Self::default() };
        let checkpoint =
            |reference: &CheckpointReference| ResolvedModel::new(&reference.uri, reference.digest.clone()).ok();
        let rejection = known.rejection.as_ref().filter(|_| known.spec_hash == spec_hash);
        Self {
            served: ResolvedModel::new(&known.uri, known.digest.clone()).ok(),
            last_good: known.last_good.as_ref().and_then(checkpoint),
            previous_good: known.previous_good.as_ref().and_then(checkpoint),
            rejected: rejection.map(|rejection| Rejected {
                uri: rejection.uri.clone(),
                digest: known.rejected_digest.clone(),
                reason: rejection.reason.clone(),
                message: rejection.message.clone(),
            }),
        }
    }
}

/// What is known of one replica.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Replica {
    /// The hash of the template that its Pod was made from.
    pub template: Option<String>,
    /// Its `/status` page, if it answered.
    pub page: Option<ServerStatus>,
    /// The sentence with which it refused its input (exit code 2).
    pub refusal: Option<String>,
}

/// What is served, and why that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// What the replicas are rendered with, or why there are none.
    pub resolution: Resolution,
    /// How that stands to the spec.
    pub(super) standing: Standing,
    /// What the spec asks for and is not tried again.
    pub(super) rejected: Option<Rejected>,
}

/// How what is served stands to what the spec asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// It is that, or nothing is served yet.
    AsAsked,
    /// The trainings have nothing to serve at the moment; what was served stays.
    Kept { message: String },
    /// The newest result of the trainings was rejected; the last good one is served.
    RolledBack { reason: String, message: String },
    /// The spec names something that cannot be served. Nothing more happens until a person changes something.
    Unmet { reason: String, message: String },
}

/// Decides, from the spec, the trainings that there are, what the status remembers and what the replicas say. Called again with its own
/// result on the status it decides the same.
pub fn decide(model: &ValidModel, trainings: &[CllmTraining], replicas: &[Replica]) -> Decision {
    if model.spec.paused {
        return pause(model);
    }
    let wish = match resolve(model, trainings) {
        Resolution::Resolved(wish) => wish,
        Resolution::Waiting { reason, message } => return keep(model, reason, message),
    };
    let evidence = Evidence::of(model, &wish, replicas);
    let Memory { served: _, last_good, previous_good: _, rejected } = &model.memory;
    let remembered = rejected.clone().filter(|rejected| rejected.is(&wish) && !evidence.answers);
    let Some(rejected) = remembered.or(evidence.against) else { return as_asked(wish) };
    match last_good {
        Some(good) if good.is_same(&wish) => gone_bad(wish, &rejected),
        Some(good) => roll_back(model, good, rejected),
        None => no_way_back(wish, rejected),
    }
}

/// What another server of the model is to serve, for whoever has neither the trainings nor the replicas at hand: what the spec and the status
/// say, with the digest that the replicas told. Absent where they say nothing yet.
pub fn serving(model: &ValidModel) -> Option<ResolvedModel> {
    let Resolution::Resolved(wish) = decide(model, &[], &[]).resolution else { return None };
    let served = model.memory.served.as_ref().filter(|served| wish.digest().is_none() && wish.is_same(served));
    Some(served.cloned().unwrap_or(wish))
}

/// What the replicas of one checkpoint say of it.
struct Evidence {
    answers: bool,
    against: Option<Rejected>,
}

impl Evidence {
    /// Only replicas as they would be made now count: others were made for an earlier spec.
    fn of(model: &ValidModel, wish: &ResolvedModel, replicas: &[Replica]) -> Self {
        let template = template_hash(model, wish);
        let made_so = || replicas.iter().filter(|replica| replica.template.as_ref() == Some(&template));
        let answers = made_so().any(|replica| replica.page.as_ref().is_some_and(|page| page.ready));
        let against = made_so().find_map(|replica| complaint(wish, replica)).filter(|_| !answers);
        Self { answers, against }
    }
}

fn complaint(wish: &ResolvedModel, replica: &Replica) -> Option<Rejected> {
    let rejected = |digest: Option<&str>, reason: &str, message| Rejected {
        uri: wish.uri().to_owned(),
        digest: wish.digest().or(digest).map(str::to_owned),
        reason: reason.to_owned(),
        message,
    };
    if let Some(page) = &replica.page
        && let Some(missed) = missed_gate(page)
    {
        return Some(rejected(Some(&page.digest), reasons::GATE_FAILED, format!("{wish} {missed}")));
    }
    let refusal = replica.refusal.as_deref()?;
    Some(rejected(None, reasons::CHECKPOINT_REFUSED, format!("A replica refuses {wish}: {refusal}")))
}

/// The figures of a replica that does not answer because of its gate.
fn missed_gate(page: &ServerStatus) -> Option<String> {
    let gate = page.gate.as_ref().filter(|gate| gate.blocked)?;
    let bar = &gate.min_speedup;
    Some(page.speedup.as_ref().map_or_else(
        || format!("could not be measured (no prompt has an answer that fits); spec.gates.minSpeedup asks for {bar}."),
        |measured| {
            format!(
                "is {} times as fast as decoded autoregressively, measured on {} prompts of {} ({}); spec.gates.minSpeedup asks for {bar}.",
                measured.over_own_autoregressive, measured.prompts, measured.prompts_from, measured.hardware
            )
        },
    ))
}

impl Rejected {
    fn is(&self, wish: &ResolvedModel) -> bool {
        self.uri == wish.uri() && wish.digest().is_none_or(|digest| self.digest.as_deref() == Some(digest))
    }
}

fn as_asked(wish: ResolvedModel) -> Decision {
    Decision { resolution: Resolution::Resolved(wish), standing: Standing::AsAsked, rejected: None }
}

fn pause(model: &ValidModel) -> Decision {
    let nothing = || Resolution::Waiting {
        reason: reasons::PAUSED,
        message: "Nothing was served before spec.paused became true: set it to false to go on.".to_owned(),
    };
    let Memory { served, rejected, last_good: _, previous_good: _ } = model.memory.clone();
    let resolution = served.map_or_else(nothing, Resolution::Resolved);
    Decision { resolution, standing: Standing::AsAsked, rejected }
}

/// What is served stays served while its training is gone, runs again or fails.
fn keep(model: &ValidModel, reason: &'static str, message: String) -> Decision {
    let rejected = model.memory.rejected.clone();
    let Some(served) = model.memory.served.clone() else {
        return Decision { resolution: Resolution::Waiting { reason, message }, standing: Standing::AsAsked, rejected };
    };
    let message = format!("{message} Meanwhile {served} stays served.");
    let standing = match reason {
        reasons::DIGEST_NOT_KNOWN => Standing::Unmet { reason: reason.to_owned(), message },
        _ => Standing::Kept { message },
    };
    Decision { resolution: Resolution::Resolved(served), standing, rejected }
}

/// It was good, so there is nothing better to go back to: this is about this spec or these nodes.
fn gone_bad(wish: ResolvedModel, rejected: &Rejected) -> Decision {
    let message = format!("{} It was served before: {}", rejected.message, next_step(&rejected.reason));
    let standing = Standing::Unmet { reason: rejected.reason.clone(), message };
    Decision { resolution: Resolution::Resolved(wish), standing, rejected: None }
}

/// A spec that follows trainings asks for the newest that holds, and has it; one that names a checkpoint has not.
fn roll_back(model: &ValidModel, good: &ResolvedModel, rejected: Rejected) -> Decision {
    let reason = rejected.reason.clone();
    let is_followed = matches!(model.reference, ModelReference::Training(_)) && model.spec.model.digest.is_none();
    let standing = if is_followed {
        let message = format!(
            "{} {good} is served instead, until the training gives another or the spec changes.",
            rejected.message
        );
        Standing::RolledBack { reason, message }
    } else {
        let message = format!("{} {good} is served instead: {}", rejected.message, next_step(&reason));
        Standing::Unmet { reason, message }
    };
    Decision { resolution: Resolution::Resolved(good.clone()), standing, rejected: Some(rejected) }
}

fn no_way_back(wish: ResolvedModel, rejected: Rejected) -> Decision {
    let message =
        format!("{} There is no earlier checkpoint to go back to: {}", rejected.message, next_step(&rejected.reason));
    let standing = Standing::Unmet { reason: rejected.reason.clone(), message };
    Decision { resolution: Resolution::Resolved(wish), standing, rejected: Some(rejected) }
}

fn next_step(reason: &str) -> &'static str {
    match reason {
        reasons::GATE_FAILED => "lower spec.gates.minSpeedup, choose another onFailure, or serve another checkpoint.",
        _ => "correct spec.model, or put the checkpoint back.",
    }
}
