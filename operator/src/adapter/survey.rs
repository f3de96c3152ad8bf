//! What the Pods of a model, or those that a selector selects, say together. Pure.

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;
use kube::core::{Selector, SelectorExt};

use crate::adapter::figures::Reading;
use crate::adapter::metric::{Metric, Total};
use crate::adapter::standing::{Standing, Target, standing};

/// Pods that were asked, with what they answered, and how many were not, and why.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Survey {
    /// Those that answered.
    pub answered: Vec<(Target, Reading)>,
    /// They were asked and did not answer.
    pub silent: usize,
    /// They are not ready.
    pub not_ready: usize,
    /// They are about to end, or have ended.
    pub ending: usize,
    /// They have no metrics page.
    pub without_page: usize,
}

/// The figure of one Pod.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Counted<'a> {
    /// The name of the Pod.
    pub pod: &'a str,
    /// Finite.
    pub value: f64,
    /// When it was read.
    pub at: Timestamp,
}

impl Survey {
    /// Sorts Pods into those that are to be asked and the others, which are counted.
    pub fn begin(pods: &[Pod]) -> (Self, Vec<Target>) {
        let (mut survey, mut targets) = (Self::default(), Vec::new());
        for pod in pods {
            match standing(pod) {
                Standing::Asked(target) => targets.push(target),
                Standing::Ending => survey.ending += 1,
                Standing::NotReady => survey.not_ready += 1,
                Standing::WithoutPage => survey.without_page += 1,
            }
        }
        (survey, targets)
    }

    /// With what those that were asked have answered.
    #[must_use]
    pub fn complete(mut self, answers: Vec<(Target, Option<Reading>)>) -> Self {
        for (target, answer) in answers {
            match answer {
                Some(reading) => self.answered.push((target, reading)),
                None => self.silent += 1,
            }
        }
        self
    }

    /// The figures of those Pods that have one whose labels are selected; the others are left out.
    pub fn counted(&self, metric: Metric, labels: &Selector) -> Vec<Counted<'_>> {
        let counted = self.answered.iter().filter_map(|(target, reading)| {
            let figure = reading.figures.get(metric).filter(|figure| labels.matches(&figure.labels))?;
            Some(Counted { pod: &target.name, value: figure.value, at: reading.at })
        });
        counted.collect()
    }

    /// Why nothing counts, in a sentence.
    pub fn absence(&self, metric: Metric) -> String {
        let Self { answered, silent, not_ready, ending, without_page } = self;
        let reasons = [
            (*not_ready, "not ready"),
            (*ending, "about to end"),
            (*silent, "not answering on their metrics page"),
            (*without_page, "without a metrics page"),
            (answered.len(), "without that figure on their page"),
        ];
        let all: usize = reasons.iter().map(|(count, _)| count).sum();
        if all == 0 {
            return format!("there is no Pod that could tell {}", metric.name());
        }
        let told: Vec<_> =
            reasons.iter().filter(|(count, _)| *count > 0).map(|(count, why)| format!("{count} {why}")).collect();
        format!("none of {all} Pods tells {}: {}", metric.name(), told.join(", "))
    }
}

/// The figure of a model, made from those of its Pods, and the time of the oldest of them; `None` if none counts.
pub fn total(metric: Metric, counted: &[Counted<'_>]) -> Option<(f64, Timestamp)> {
    let oldest = counted.iter().map(|counted| counted.at).min()?;
    let sum: f64 = counted.iter().map(|counted| counted.value).sum();
    let value = match metric.total() {
        Total::Sum => sum,
        Total::Mean => sum / counted.len() as f64,
    };
    Some((value, oldest))
}
