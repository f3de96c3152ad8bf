//! Reads a metrics page, in the text format of Prometheus
//! (<https://prometheus.io/docs/instrumenting/exposition_formats/#text-format-details>), as far as it is asked for: three gauges.

use std::collections::BTreeMap;

use crate::adapter::figures::{Figure, Figures};
use crate::adapter::metric::Metric;

/// The figures on a page. A line that cannot be read is passed over, and so is a value that is no number.
pub fn read_page(page: &str) -> Figures {
    Figures {
        tokens_per_second: find(page, Metric::TokensPerSecond),
        utilization_percent: find(page, Metric::UtilizationPercent),
        queued_requests: find(page, Metric::QueuedRequests),
    }
}

fn find(page: &str, metric: Metric) -> Option<Figure> {
    page.lines().find_map(|line| figure(line.trim(), metric.name()))
}

/// The figure of a line that has that name: `name value`, `name{label="text",…} value`, either with a time behind.
fn figure(line: &str, name: &str) -> Option<Figure> {
    let rest = line.strip_prefix(name)?;
    let (labels, rest) = match rest.strip_prefix('{') {
        Some(inside) => labels(inside)?,
        None => (BTreeMap::new(), rest.strip_prefix([' ', '\t'])?),
    };
    let value: f64 = rest.split_whitespace().next()?.parse().ok()?;
    value.is_finite().then_some(Figure { value, labels })
}

/// Label pairs up to the closing brace, and what follows it.
fn labels(mut text: &str) -> Option<(BTreeMap<String, String>, &str)> {
    let mut labels = BTreeMap::new();
    loop {
        text = text.trim_start_matches([' ', ',']);
        if let Some(rest) = text.strip_prefix('}') {
            return Some((labels, rest));
        }
        let (name, rest) = text.split_once('=')?;
        let (value, rest) = quoted(rest.trim_start().strip_prefix('"')?)?;
        labels.insert(name.trim().to_owned(), value);
        text = rest;
    }
}

/// The text up to the closing quote, with its escapes undone, and what follows.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => value.push(match characters.next()?.1 {
                'n' => '\n',
                other => other,
            }),
            other => value.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gauges_are_found_with_their_labels_and_nothing_else_is_taken_for_them() {
        let page = "# HELP cllm_tokens_per_second Generated tokens per second.\n\
            # TYPE cllm_tokens_per_second gauge\n\
            cllm_tokens_per_second_total{model_name=\"other\"} 7\n\
            cllm_tokens_per_second{model_name=\"a \\\"b\\\", {c}\\\\\"} 12.5 1700000000000\n\
            cllm_utilization_percent 40\n";
        let figures = read_page(page);
        let figure = figures.get(Metric::TokensPerSecond).unwrap();
        assert_eq!((figure.value, figure.labels["model_name"].as_str()), (12.5, "a \"b\", {c}\\"));
        assert_eq!(figures.get(Metric::UtilizationPercent).map(|figure| figure.value), Some(40.0));
        assert_eq!(figures.get(Metric::QueuedRequests), None);
    }

    #[test]
    fn what_is_no_number_or_cut_off_is_no_figure() {
        for (page, expected) in [
            ("cllm_queued_requests{model_name=\"m\"} 3", Some(3.0)),
            ("cllm_queued_requests{model_name=\"cut\ncllm_queued_requests 4", Some(4.0)),
            ("cllm_queued_requests NaN", None),
            ("cllm_queued_requests +Inf", None),
            ("cllm_queued_requests{model_name=\"m 4", None),
            ("cllm_queued_requests", None),
            ("", None),
        ] {
            let figures = read_page(page);
            assert_eq!(figures.get(Metric::QueuedRequests).map(|figure| figure.value), expected, "{page}");
        }
    }
}
