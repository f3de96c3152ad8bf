//! The report as a page that stands alone: figures, tables, plots, and the conditions under which they hold. Pure.

mod plots;

use cllm_crds::report::{Interval, Report};
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

/// HTML of a report. `history` are the figures of the training, where they are known.
pub(super) fn page(report: &Report, history: &[Point]) -> Result<String> {
    let mut environment = Environment::new();
    environment.add_template("report.html", include_str!("report.html")).map_err(Failure::engine)?;
    let template = environment.get_template("report.html").map_err(Failure::engine)?;
    let plots = plots::all(report, history)?;
    let context = context! {
        report => Serde(report),
        figures => Serde(figures(report)),
        agreement => agreement(report),
        plots,
    };
    template.render(context).map_err(Failure::engine)
}

fn figures(report: &Report) -> Vec<Figure> {
    let intervals = report.intervals.as_ref();
    let times = |value: &str| format!("{value} ×");
    let of = |name, value: String, interval: Option<&Interval>| Figure {
        name,
        value,
        interval: interval.map_or_else(String::new, |Interval { low, high }| format!("{low:.2} to {high:.2}")),
    };
    let (speedup, quality) = (&report.speedup, &report.quality);
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
        of("points of quality lost", quality.drop.clone(), intervals.map(|all| &all.quality_drop)),
    ]
}

/// Percent of the prompts that the trained checkpoint answers as the target does.
fn agreement(report: &Report) -> String {
    let agreeing = report.prompts.iter().filter(|prompt| prompt.agrees_with_target).count();
    format!("{:.1}", 100.0 * ratio(agreeing as f64, report.prompts.len() as f64))
}
