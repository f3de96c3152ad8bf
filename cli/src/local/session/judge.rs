//! What a session makes of the statuses: what to announce, what has failed for good, whether all is ready.

use std::path::Path;

use cllm_crds::CllmModelStatus;
use cllm_crds::conditions::{reasons, types};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use super::super::LocalError;
use super::super::process::tail;
use super::super::report;
use super::super::table::is_true;
use super::{Session, Standing, job_names, model_status, training_status};
use crate::documents::Place;
use crate::validated::{CheckedModel, CheckedTraining};

impl Session {
    /// Announces what has become ready, and fails with what has failed for good.
    pub(super) fn judge(&mut self) -> Result<Standing, LocalError> {
        let mut notes = Vec::new();
        for training in &self.plan.trainings {
            let (object, status) = (name_of(&training.place), training_status(training));
            let failed = find(&status.conditions, types::FAILED).filter(|condition| condition.status == "True");
            let has_ended = failed.is_some() || is_true(&status.conditions, types::COMPLETE);
            if has_ended && self.announced.insert(object.clone()) {
                let output = status.output.as_ref().and_then(|output| self.plan.claims.path_of(&output.uri));
                notes.extend(output.map(|checkpoint| report::describe(&checkpoint)));
            }
            if let Some(condition) = failed {
                let text = self.training_failure(training, &object, condition);
                for note in notes {
                    self.reporter.note(&note);
                }
                return Err(LocalError::Failed(text));
            }
        }
        for model in &self.plan.models {
            let (object, status) = (name_of(&model.place), model_status(model));
            if model.resource.spec.paused {
                let sentence = format!("{object} is paused (spec.paused is true); set it to false and run again");
                return Err(LocalError::Failed(sentence));
            }
            if let Some(stalled) = find(&status.conditions, types::STALLED).filter(|stalled| stalled.status == "True") {
                return Err(LocalError::Failed(format!("{object}: {}", stalled.message)));
            }
            if is_true(&status.conditions, types::READY) && self.announced.insert(object.clone()) {
                notes.extend(measured_speedup(&object, &status));
                notes.extend(status.url.map(|url| invitation(&object, &url, model.valid.served_name())));
            }
        }
        for note in &notes {
            self.reporter.note(note);
        }
        if let Some(failure) = &self.server_failure {
            return Err(LocalError::Failed(with_log(&failure.sentence, &failure.log)));
        }
        self.standing()
    }

    fn standing(&self) -> Result<Standing, LocalError> {
        let is_complete = |training: &CheckedTraining| is_true(&training_status(training).conditions, types::COMPLETE);
        let is_ready = |model: &CheckedModel| {
            model.valid.replicas() == 0 || is_true(&model_status(model).conditions, types::READY)
        };
        if self.plan.trainings.iter().all(is_complete) && self.plan.models.iter().all(is_ready) {
            return Ok(Standing::Ready);
        }
        let mut open = self.plan.trainings.iter().filter(|training| !is_complete(training));
        let is_held = |training: &CheckedTraining| training.resource.spec.suspend;
        match open.clone().find(|training| is_held(training)) {
            Some(held) if open.all(is_held) && self.executor.is_idle() => Err(LocalError::Failed(format!(
                "{} is suspended (spec.suspend is true); set it to false and run again",
                name_of(&held.place)
            ))),
            _ => Ok(Standing::Working),
        }
    }

    fn training_failure(&self, training: &CheckedTraining, object: &str, condition: &Condition) -> String {
        let sentence = format!("{object}: {}", condition.message);
        if condition.reason == reasons::GATE_FAILED {
            return sentence;
        }
        match self.executor.failure(&job_names(training)) {
            Some(failure) if failure.sentence.is_some() => with_log(&sentence, &failure.log),
            Some(failure) => with_log(&format!("{sentence} (exit code {})", failure.exit_code), &failure.log),
            None => sentence,
        }
    }
}

fn find<'a>(conditions: &'a [Condition], type_: &str) -> Option<&'a Condition> {
    conditions.iter().find(|condition| condition.type_ == type_)
}

pub(super) fn name_of(place: &Place) -> String {
    place.object.clone().unwrap_or_else(|| place.to_string())
}

/// What the server measured of itself, once it has.
fn measured_speedup(object: &str, status: &CllmModelStatus) -> Option<String> {
    status.speedup.as_ref()?;
    let verified = find(&status.conditions, types::SPEEDUP_VERIFIED)?;
    Some(format!("{object} is {}", verified.message))
}

fn invitation(object: &str, url: &str, served_name: &str) -> String {
    format!(
        "{object} answers at {url}/v1\n  curl {url}/v1/completions -H 'Content-Type: application/json' \\\n    -d '{{\"model\": \
         \"{served_name}\", \"prompt\": \"Hello\", \"max_tokens\": 64}}'\n  cllm chat --url {url}/v1"
    )
}

fn with_log(sentence: &str, log: &Path) -> String {
    let lines: Vec<String> = tail(log)
        .iter()
        .map(|line| {
            format!(
                "
  | {line}"
            )
        })
        .collect();
    format!("{sentence}\n  log: {}{}", log.display(), lines.concat())
}
