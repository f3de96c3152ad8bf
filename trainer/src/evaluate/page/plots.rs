//! Plots of a report as SVG.

use std::ops::Range;

use cllm_crds::report::{ArmCheckpoint, ArmStrategy, BlockSizePoint, PromptArm, Report};
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;

use crate::failure::{Failure, Result};
use crate::history::Point;

const SIZE: (u32, u32) = (640, 320);
/// Blue and orange: told apart by people who see few colors too.
const COLORS: [RGBColor; 2] = [RGBColor(0, 114, 178), RGBColor(213, 94, 0)];

/// A line with its name.
struct Series {
    name: &'static str,
    points: Vec<(f64, f64)>,
}

/// Counts for 1, 2, 3, … with their name.
struct Counts<'a> {
    name: &'static str,
    of_one: &'a [u64],
}

/// Every plot that the report has values for.
pub(super) fn all(report: &Report, history: &[Point]) -> Result<Vec<String>> {
    let curve = |value: fn(&BlockSizePoint) -> f64| -> Vec<(f64, f64)> {
        report.block_sizes.iter().map(|point| (f64::from(point.block_size), value(point))).collect()
    };
    let cost = report.forward_cost.iter().map(|cost| (f64::from(cost.rows), cost.ratio)).collect();
    let gains = vec![
        Series { name: "tokens per forward", points: curve(|point| point.tokens_per_forward) },
        Series { name: "tokens per second over the target", points: curve(|point| point.over_target) },
    ];
    let plots = [
        lines("Gain by block size (trained checkpoint, without lookup)", "rows of a forward", &gains),
        lines(
            "Cost of a forward over that of one row",
            "rows of a forward",
            &[Series { name: "t(n)/t(1)", points: cost }],
        ),
        bars("Forwards by the tokens they gave (Jacobi without lookup)", "tokens of a forward", &accepted(report)),
        lines(
            "Tokens per forward over training (held-out prompts)",
            "step",
            &measured(history, "tokensPerForward", "tokens per forward"),
        ),
        lines(
            "Perplexity of the answers of the target over training (held-out prompts)",
            "step",
            &measured(history, "perplexityOverTarget", "over that of the target"),
        ),
        lines("Tokens per forward by the length of the answer", "tokens of the answer", &by_length(report)),
    ];
    plots.into_iter().filter_map(Result::transpose).collect()
}

/// Forwards of both sides; reports of older versions have one.
fn accepted(report: &Report) -> Vec<Counts<'_>> {
    let sides = [
        Counts { name: "trained checkpoint", of_one: &report.accepted_len_histogram },
        Counts { name: "target", of_one: &report.target_accepted_len_histogram },
    ];
    sides.into_iter().filter(|side| !side.of_one.is_empty()).collect()
}

/// A figure of the training by its name in the history.
fn measured(history: &[Point], figure: &str, name: &'static str) -> Vec<Series> {
    let value = |point: &Point| point.measured.iter().find(|(found, _)| found == figure).map(|(_, value)| *value);
    let points = history.iter().filter_map(|point| Some((point.step as f64, value(point)?))).collect();
    vec![Series { name, points }]
}

/// Mean tokens per forward of answers of about the same length: trained checkpoint, Jacobi without lookup.
fn by_length(report: &Report) -> Vec<Series> {
    const CLASS: u32 = 16;
    let jacobi =
        report.arms.iter().position(|arm| arm.checkpoint == ArmCheckpoint::Cllm && arm.strategy == ArmStrategy::Jacobi);
    let Some(jacobi) = jacobi else { return Vec::new() };
    let mut classes = std::collections::BTreeMap::<u32, (u32, u32)>::new();
    for PromptArm { tokens, forwards, .. } in report.prompts.iter().filter_map(|prompt| prompt.arms.get(jacobi)) {
        let sums = classes.entry(tokens / CLASS).or_default();
        *sums = (sums.0 + tokens.saturating_sub(1), sums.1 + forwards);
    }
    let point = |(class, (tokens, forwards)): (u32, (u32, u32))| {
        (forwards > 0).then(|| (f64::from(class * CLASS + CLASS / 2), f64::from(tokens) / f64::from(forwards)))
    };
    vec![Series { name: "tokens per forward", points: classes.into_iter().filter_map(point).collect() }]
}

/// Lines from 0 on; none where there are fewer than two points.
fn lines(title: &str, x_label: &str, series: &[Series]) -> Result<Option<String>> {
    let points = || series.iter().flat_map(|series| &series.points);
    if points().count() < 2 {
        return Ok(None);
    }
    let limit = |value: fn(&(f64, f64)) -> f64| points().map(value).fold(0.0, f64::max) * 1.05;
    plot(title, 40, [0.0..limit(|point| point.0), 0.0..limit(|point| point.1)], |chart| {
        chart.configure_mesh().x_desc(x_label).light_line_style(WHITE).draw()?;
        for (series, color) in series.iter().zip(COLORS) {
            let line = LineSeries::new(series.points.iter().copied(), color.stroke_width(2)).point_size(3);
            let sample = move |(x, y)| PathElement::new([(x, y), (x + 16, y)], color.stroke_width(2));
            chart.draw_series(line)?.label(series.name).legend(sample);
        }
        legend(chart, SeriesLabelPosition::LowerRight)
    })
    .map(Some)
}

/// A bar for each count, those of all sides beside each other; none where nothing was counted.
fn bars(title: &str, x_label: &str, sides: &[Counts<'_>]) -> Result<Option<String>> {
    let top = sides.iter().flat_map(|side| side.of_one).max().copied().unwrap_or(0);
    if top == 0 {
        return Ok(None);
    }
    let places = sides.iter().map(|side| side.of_one.len()).max().unwrap_or(0);
    let width = 0.8 / sides.len() as f64;
    plot(title, 60, [0.5..places as f64 + 0.5, 0.0..top as f64 * 1.05], |chart| {
        chart.configure_mesh().disable_x_mesh().x_desc(x_label).draw()?;
        for (number, (side, color)) in sides.iter().zip(COLORS).enumerate() {
            let bar = |(place, count): (u32, &u64)| {
                let left = f64::from(place) - 0.4 + number as f64 * width;
                Rectangle::new([(left, 0.0), (left + width, *count as f64)], color.filled())
            };
            let sample = move |(x, y): (i32, i32)| Rectangle::new([(x, y - 5), (x + 16, y + 5)], color.filled());
            chart.draw_series((1..).zip(side.of_one).map(bar))?.label(side.name).legend(sample);
        }
        legend(chart, SeriesLabelPosition::UpperRight)
    })
    .map(Some)
}

/// The names of what is drawn.
fn legend(chart: &mut Chart<'_>, position: SeriesLabelPosition) -> Drawn {
    let mut labels = chart.configure_series_labels();
    labels.position(position).background_style(WHITE.mix(0.8)).border_style(BLACK).draw()
}

type Chart<'a> = ChartContext<'a, SVGBackend<'a>, Cartesian2d<RangedCoordf64, RangedCoordf64>>;
type Drawn = std::result::Result<(), DrawingAreaErrorKind<std::io::Error>>;

/// The frame of every plot; `draw` fills it. `label_width` is the room for the numbers at its left.
fn plot(
    title: &str,
    label_width: u32,
    [x, y]: [Range<f64>; 2],
    draw: impl FnOnce(&mut Chart<'_>) -> Drawn,
) -> Result<String> {
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        let mut chart = ChartBuilder::on(&area)
            .caption(title, ("sans-serif", 16))
            .margin(10)
            .x_label_area_size(40)
            .y_label_area_size(label_width)
            .build_cartesian_2d(x, y)
            .map_err(Failure::engine)?;
        draw(&mut chart).map_err(Failure::engine)?;
        area.present().map_err(Failure::engine)?;
    }
    Ok(svg)
}
