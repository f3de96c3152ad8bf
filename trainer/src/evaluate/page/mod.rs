//! The report as a page that stands alone: figures, tables, plots, and the conditions under which they hold. Pure.

mod plots;

use cllm_crds::report::{Interval, Intervals, Perplexity, Quality, Report, Sampled, Speedup};
use minijinja::value::Serde;
use minijinja::{Environment, context};
use serde::Serialize;

use super::arms::ratio;
use crate::failure::{Failure, Result};
use crate::history::Point;

/// A figure with its interval, as texts.
#[derive(Serialize)]
struct Figure {
    name: &'static str,
    value: String,
    interval: String,
}

/// What is said of a temperature above 0.
#[derive(Serialize)]
struct Section<'a> {
    sampled: &'a Sampled,
    sides: [String; 2],
    figures: Vec<Figure>,
}

impl<'a> From<&'a Sampled> for Section<'a> {
    fn from(sampled: &'a Sampled) -> Self {
        let Sampled { speedup, quality, intervals, .. } = sampled;
        Self { sampled, sides: quality.sides(), figures: figures(speedup, quality, Some(intervals)) }
    }
}

/// HTML of a report. `history` are the figures of the training, where they are known.
pub(super) fn page(report: &Report, history: &[Point]) -> Result<String> {
    let mut environment = Environment::new();
    environment.add_template("report.html", include_str!("report.html")).map_err(Failure::engine)?;
    let template = environment.get_template("report.html").map_err(Failure::engine)?;
    let plots = plots::all(report, history)?;
    let mut all = figures(&report.speedup, &report.quality, report.intervals.as_ref());
    all.extend(report.perplexity.as_ref().map(perplexity));
    let sections: Vec<Section<'_>> = report.sampled.iter().map(Section::from).collect();
    let context = context! {
        report => Serde(report),
        figures => Serde(all),
        sections => Serde(sections),
        sides => report.quality.sides().to_vec(),
        is_perplexity => report.quality.is_perplexity(),
        agreement => agreement(report),
        kept => Serde(kept(history)),
        weights => report.conditions.weights(),
        plots,
    };
    template.render(context).map_err(Failure::engine)
}

/// Which of how many steps the weights are from, where the training had a choice.
fn kept(history: &[Point]) -> Option<(u64, u64)> {
    Some((history.iter().find(|point| point.kept)?.step, history.last()?.step))
}

fn figures(speedup: &Speedup, quality: &Quality, intervals: Option<&Intervals>) -> Vec<Figure> {
    let times = |value: &str| format!("{value} ×");
    let of = |name, value: String, interval: Option<&Interval>| Figure {
        name,
        value,
        interval: interval.map_or_else(String::new, range),
    };
    vec![
        of("over the target", times(&speedup.over_target), intervals.map(|all| &all.over_target)),
        of(
            "over the target with prompt lookup: what training earned",
            times(&speedup.over_target_with_lookup),
            intervals.map(|all| &all.over_target_with_lookup),
        ),
        of(
            "over its own autoregressive decoding",
            times(&speedup.over_own_autoregressive),
            intervals.map(|all| &all.over_own_autoregressive),
        ),
        of("tokens per forward", speedup.tokens_per_forward.clone(), intervals.map(|all| &all.tokens_per_forward)),
        of(lost(quality), quality.drop.clone(), intervals.map(|all| &all.quality_drop)),
    ]
}

/// What the drop of a quality counts.
fn lost(quality: &Quality) -> &'static str {
    if quality.is_perplexity() { "percent of perplexity gained" } else { "points of quality lost" }
}

fn perplexity(found: &Perplexity) -> Figure {
    Figure {
        name: "perplexity of the target's answers over that of the target itself",
        value: format!("{:.2} ×", ratio(found.cllm, found.target)),
        interval: range(&found.ratio_interval),
    }
}

fn range(interval: &Interval) -> String {
    let Interval { low, high } = interval;
    format!("{low:.2} to {high:.2}")
}

/// Percent of the prompts that the trained checkpoint answers as the target does.
fn agreement(report: &Report) -> String {
    let agreeing = report.prompts.iter().filter(|prompt| prompt.agrees_with_target).count();
    format!("{:.1}", 100.0 * ratio(agreeing as f64, report.prompts.len() as f64))
}
